"""Who may speak to whom: everything that is not named here is refused.

Where clients, Prometheus and external servers are cannot be known: they are let in, or reached, by port alone. A
network that knows no NetworkPolicies lets everybody through; keys and passwords hold all the same.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from chatoperator.manifests import names, ports, sources
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.manifests.sources import Source
from chatoperator.spec import ChatCluster

OPERATOR_LABELS = {names.LABEL_COMPONENT: "operator"}
"""Of the operator's own pods."""

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes sets it on every namespace."""

DNS_PORTS = (53, 5353)
"""In front of a resolver, and where some distributions' resolvers really listen: policies see the latter."""

WEB_PORTS = {"http": 80, "https": 443}


def policies(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """One for each kind of pod, for both directions. Raises SourceError."""
    redis, store = sources.both(cluster)
    to_redis, to_store = _to(cluster, inputs, redis), _to(cluster, inputs, store)
    operator = _operator(inputs)
    # Prometheus may be anywhere.
    watched = [] if cluster.spec.observability.service_monitor else [operator]
    ours = [_pods(cluster, one) for one in (names.CHAT, names.API, names.WORKER, names.PROBE)]
    served, dns = _rule("from", [], [names.PORT]), _rule("to", [], DNS_PORTS, udp=True)
    inside = _rule("from", watched, [names.PORT])
    made = [
        (names.CHAT, [served], [dns, *to_redis, *to_store]),
        (names.API, [served], [dns, *to_redis, *to_store, *_to_issuers(cluster)]),
        (names.WORKER, [inside], [dns, *to_redis, *to_store]),
        (names.PROBE, [inside], [dns, *to_redis, *to_store, _to_pods(cluster)]),
        (names.SCHEMA, [], [dns, *to_store]),
    ]
    for source in (redis, store):
        if source.development:
            askers = [*ours, operator] if source is redis else [*ours, _pods(cluster, names.SCHEMA)]
            made.append((source.component, [_rule("from", askers, [ports.DEFAULT[source.component]])], []))
    return [_policy(cluster, inputs, component, into, out) for component, into, out in made]


def _policy(
    cluster: ChatCluster, inputs: Inputs, component: str, into: list[Manifest], out: list[Manifest]
) -> Manifest:
    name = cluster.metadata.name
    spec: Manifest = {
        "podSelector": {"matchLabels": names.selector(name, component)},
        "policyTypes": ["Ingress", "Egress"],
    }
    if into:
        spec["ingress"] = into
    if out:
        spec["egress"] = out
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(cluster, owner_of(cluster, inputs), names.of(name, component), component),
        "spec": spec,
    }


def _to(cluster: ChatCluster, inputs: Inputs, source: Source) -> list[Manifest]:
    """The way to Redis or a store."""
    if source.development:
        return [_rule("to", [_pods(cluster, source.component)], [ports.DEFAULT[source.component]])]
    is_redis = source.component == names.REDIS
    if source.secret is not None:
        known = inputs.redis_ports if is_redis else inputs.store_ports
    else:
        known = ports.redis_ports(source.url) if is_redis else ports.store_ports(source.url)
    return [_rule("to", [], known)]


def _to_issuers(cluster: ChatCluster) -> list[Manifest]:
    """Where the keys of foreign issuers are fetched."""
    found = {_web_port(issuer.jwks_url) for issuer in cluster.spec.auth.issuers}
    return [_rule("to", [], sorted(found))] if found else []


def _to_pods(cluster: ChatCluster) -> Manifest:
    """Where the probe chats: straight to the pods, and not round by the way from outside."""
    return _rule("to", [_pods(cluster, names.CHAT), _pods(cluster, names.API)], [names.PORT])


def _web_port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or WEB_PORTS.get(parts.scheme, WEB_PORTS["https"])


def _pods(cluster: ChatCluster, component: str) -> Manifest:
    return {"podSelector": {"matchLabels": names.selector(cluster.metadata.name, component)}}


def _operator(inputs: Inputs) -> Manifest:
    return {
        "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: inputs.operator_namespace}},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }


def _rule(
    way: str, peers: list[Manifest], allowed: tuple[int, ...] | list[int], *, udp: bool = False
) -> Manifest:
    """`peers` empty: everybody. `allowed` empty: any TCP port."""
    protocols = ("UDP", "TCP") if udp else ("TCP",)
    listed = [{"protocol": protocol, "port": port} for port in allowed for protocol in protocols]
    return {**({way: peers} if peers else {}), "ports": listed or [{"protocol": "TCP"}]}
