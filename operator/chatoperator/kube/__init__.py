"""The cluster's second place to run: Kubernetes. What is here knows its API; what is decided is decided elsewhere."""
