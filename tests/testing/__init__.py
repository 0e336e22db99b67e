"""Tests of `ha_canal.testing`: the tools of all other tests."""
