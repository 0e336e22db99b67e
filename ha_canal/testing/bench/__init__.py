"""The benchmark: every path over the same binlog in one run, side by side, against the raw drain and a peer."""
