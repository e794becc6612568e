"""The cluster's network: a bridge in a namespace of its own, and a namespace for every node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cluster.machine.layout import API_ADDRESS, PODS, SERVICES, Layout, MachineError, Node, namespace
from cluster.machine.shell import inside, run

BRIDGE = "bridge"


def build(layout: Layout, nodes: Sequence[Node]) -> None:
    """What is missing of it. There is no default route anywhere: nothing in it reaches anything outside."""
    core = layout.name
    if not namespace(core).exists():
        run("ip", "netns", "add", core)
        _ip(core, "link set lo up")
        _ip(core, f"link add {BRIDGE} type bridge")
        _ip(core, f"addr add {API_ADDRESS}/24 dev {BRIDGE}")
        _ip(core, f"link set {BRIDGE} up")
        for net in (PODS, SERVICES):
            _ip(core, f"route add unreachable {net}.0.0/16 metric 9999")
        # Clients beside the control plane have no kube-proxy: the first node's does it for them.
        _ip(core, f"route add {SERVICES}.0.0/16 via {layout.node(1).address} onlink dev {BRIDGE}")
    for node in nodes:
        if not namespace(node.label).exists():
            _add_node(core, node)
    for node in nodes:
        for other in nodes:
            if node != other:
                _ip(node.label, f"route replace {other.pods} via {other.address} dev eth0")


def _add_node(core: str, node: Node) -> None:
    run("ip", "netns", "add", node.label)
    _ip(core, f"link add {node.label} type veth peer name eth0 netns {namespace(node.label)}")
    _ip(core, f"link set {node.label} master {BRIDGE} up")
    _ip(node.label, "link set lo up")
    _ip(node.label, f"addr add {node.address}/24 dev eth0")
    _ip(node.label, "link set eth0 up")
    _ip(node.label, f"route add {SERVICES}.0.0/16 dev eth0")
    inside(node.label, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    _ip(core, f"route add {node.pods} via {node.address} dev {BRIDGE}")


def set_link(node: Node, *, up: bool) -> None:
    """Pull a node's cable, or plug it in again. Its containers run on meanwhile, and reach each other."""
    _ip(node.cluster, f"link set {node.label} {'up' if up else 'down'}")


def remove(label: str) -> None:
    """A namespace, with the interfaces in it."""
    with suppress(MachineError):
        run("ip", "netns", "del", label)


def _ip(label: str, words: str) -> None:
    inside(label, "ip", *words.split())
