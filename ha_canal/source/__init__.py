"""Reading one source: where to start, the connection that reads, and coming back after a break."""
