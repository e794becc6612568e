"""The machine: every program of a Kubernetes as a process of its own, its nodes as network namespaces.

No registry, no Docker, no virtual machine. The control plane and the bridge between the nodes are in one network
namespace, each node (containerd, kubelet, kube-proxy) in another, and none has a way out: this machine's own network
gets no address, no route and no filter. What is slow to make (programs, image layers) is kept in the user's cache.
"""
