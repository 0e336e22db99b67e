"""Tests of the values that all rooms speak of."""
