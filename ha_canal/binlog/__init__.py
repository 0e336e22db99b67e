"""The binlog, sans-IO: bytes of a dump connection in, transactions with raw rows out, and rows decoded on demand."""
