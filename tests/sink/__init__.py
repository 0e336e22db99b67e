"""Tests of filters and of the sink."""
