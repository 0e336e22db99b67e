"""Tests of where reading starts, how it comes back, and of the reader on real servers."""
