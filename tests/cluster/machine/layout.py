"""What a cluster's parts are called, and where they are: folders, addresses, namespaces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The addresses are the same in every cluster: none leaves its namespaces.
NETWORK = "10.200.0"
"""Of the bridge: .1 is the control plane, .10 + i node i."""
PODS = "10.244"
"""Node i's pods are in 10.244.i.0/24."""
SERVICES = "10.96"
API_ADDRESS = f"{NETWORK}.1"
API_URL = f"https://{API_ADDRESS}:6443"
DNS_DOMAIN = "cluster.local"

MACHINE_ENV = "CHATCLUSTER_TEST_MACHINE"
"""Set in the network of a cluster of this machine, to its name: a test can break its nodes."""

NODES_MAX = 9
NAME_MAX = 8
"""Of a cluster's name: `NAME-1` is an interface (15 characters) and part of socket paths (107)."""


class MachineError(Exception):
    """This machine lacks something, or a part did not come up: the message says what and where to look."""


def cache() -> Path:
    """What outlives clusters: programs by the hash of their sources, layers by what they are made of."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "chatcluster" / "kubernetes"


@dataclass(frozen=True)
class Node:
    """One node of a cluster: `number` counts from 1."""

    cluster: str
    number: int

    @property
    def name(self) -> str:
        """In Kubernetes."""
        return f"node-{self.number}"

    @property
    def label(self) -> str:
        """On this machine: the network namespace, the interface at the bridge, and the cgroup."""
        return f"{self.cluster}-{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{10 + self.number}"

    @property
    def pods(self) -> str:
        return f"{PODS}.{self.number}.0/24"


@dataclass(frozen=True)
class Layout:
    """One cluster on this machine. Several can run side by side by different names."""

    name: str = "chat"
    root: Path = Path("/var/lib/chatcluster-test")
    sockets: Path = Path("/run/chatcluster-test")

    def __post_init__(self) -> None:
        if not (self.name.isalnum() and self.name.islower() and len(self.name) <= NAME_MAX):
            raise MachineError(f"a cluster's name has up to {NAME_MAX} lower-case letters: {self.name!r}")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Layout:
        """The cluster that CLUSTER names."""
        return cls(environment.get("CLUSTER") or cls.name)

    @property
    def state(self) -> Path:
        """All that a cluster writes; gone when it is down."""
        return self.root / self.name

    @property
    def run(self) -> Path:
        """Sockets, and what its containers have mounted."""
        return self.sockets / self.name

    @property
    def sysctls(self) -> Path:
        """What kubelets changed for the whole machine: as it was before the first cluster."""
        return self.sockets / "sysctls"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.kubeconfig_of("admin")

    def kubeconfig_of(self, user: str) -> Path:
        return self.state / f"{user}.kubeconfig"

    def node(self, number: int) -> Node:
        return Node(self.name, number)

    def nodes(self) -> list[Node]:
        """Those that are up or were left behind, by their folders."""
        numbers = [n for n in range(1, NODES_MAX + 1) if self.node_state(self.node(n)).exists()]
        return [self.node(number) for number in numbers]

    def node_state(self, node: Node) -> Path:
        return self.state / node.name

    def node_run(self, node: Node) -> Path:
        return self.run / node.name

    def containerd(self, node: Node) -> Path:
        """The socket of a node's containerd."""
        return self.node_run(node) / "containerd.sock"


def namespace(label: str) -> Path:
    """A network namespace's handle."""
    return Path("/run/netns") / label


def entering(label: str) -> list[str]:
    """Puts a command into a network namespace. (`ip netns exec` would mount another /sys, without cgroups.)"""
    return ["nsenter", f"--net={namespace(label)}"]
