"""Tests of logging in, of the questions to a server, and of the dump command, on real servers."""
