"""Tests of one active instance: a real database, a real lease, and an in-memory coordination service."""
