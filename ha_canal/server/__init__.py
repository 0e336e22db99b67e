"""The gRPC face of a node: who may read an instance, batches out, acknowledgements in."""
