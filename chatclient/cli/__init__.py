"""`chatctl`: run a cluster, look at it, talk in it."""
