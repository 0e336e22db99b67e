"""The values that all rooms speak of: positions, GTID sets, changes, table columns. No I/O, no clocks."""
