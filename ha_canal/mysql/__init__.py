"""The database as a server that is spoken to: logging in, asking about it, and the dump command."""
