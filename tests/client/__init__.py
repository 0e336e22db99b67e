"""The SDK: its decisions without sockets, and the whole of it against a served instance in memory."""
