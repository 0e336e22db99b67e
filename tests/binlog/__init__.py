"""Tests of the room `ha_canal.binlog`."""
