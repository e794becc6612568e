"""What NetworkPolicies let through, as Kubernetes documents it: for asking who reaches whom."""

from __future__ import annotations

from msgspec import Struct

from chatoperator.manifests.inputs import Manifest


class Peer(Struct, frozen=True):
    """Somebody with an address. Without labels: outside of Kubernetes."""

    namespace: str = ""
    labels: dict[str, str] | None = None


def reaches(policies: list[Manifest], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether the one may send and the other may receive."""
    out = _allowed(policies, source, target, "egress", port, protocol)
    return out and _allowed(policies, target, source, "ingress", port, protocol)


def _allowed(
    policies: list[Manifest], subject: Peer, other: Peer, way: str, port: int, protocol: str
) -> bool:
    concerned = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == subject.namespace
        and _matches(policy["spec"]["podSelector"], subject.labels)
        and way.capitalize() in policy["spec"]["policyTypes"]
    ]
    if not concerned:
        return True
    rules = [rule for spec in concerned for rule in spec.get(way, [])]
    return any(
        _peers(policies, rule.get("from" if way == "ingress" else "to"), subject, other)
        and _ports(rule.get("ports"), port, protocol)
        for rule in rules
    )


def _peers(policies: list[Manifest], peers: list[Manifest] | None, subject: Peer, other: Peer) -> bool:
    if peers is None:
        return True
    return any(_is_meant(peer, subject, other) for peer in peers)


def _is_meant(peer: Manifest, subject: Peer, other: Peer) -> bool:
    if "namespaceSelector" in peer:
        spaces = {"kubernetes.io/metadata.name": other.namespace}
        if not _matches(peer["namespaceSelector"], spaces):
            return False
    elif other.namespace != subject.namespace:
        return False
    return _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Manifest, labels: dict[str, str] | None) -> bool:
    return labels is not None and selector.get("matchLabels", {}).items() <= labels.items()


def _ports(ports: list[Manifest] | None, port: int, protocol: str) -> bool:
    if ports is None:
        return True
    return any(one["protocol"] == protocol and one.get("port", port) == port for one in ports)
