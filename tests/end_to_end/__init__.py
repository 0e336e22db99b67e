"""The promise, on real servers and real node processes: what is killed, stopped, frozen or cut loses nothing."""
