"""Builds every Kubernetes object of a ChatCluster. Pure: plain values in, manifests as dictionaries out."""
