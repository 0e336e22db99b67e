"""Who runs an instance: coordination, election, fencing, and the tree of nodes that clients and operators know."""
