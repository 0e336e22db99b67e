"""Tests of the ring and its subscriptions."""
