"""Tests of column names that come from the database instead of the binlog."""
