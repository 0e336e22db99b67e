"""The gRPC service, from the client lock to the bytes on the wire."""
