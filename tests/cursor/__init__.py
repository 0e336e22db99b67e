"""Tests of cursors: their JSON and their group commit."""
