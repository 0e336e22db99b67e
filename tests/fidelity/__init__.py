"""Decoded rows against the server's own SELECT: random ones, and cases that were wrong once."""
