"""Who may speak to whom: everything that is not named here is refused.

Where clients, Prometheus and external servers are cannot be known: they are let in, or reached, by port alone. A
network that knows no NetworkPolicies lets everybody through: keys and passwords hold all the same, but the MongoDB
that is run for trying out has none.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from chatoperator.manifests import names, ports, sources
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.manifests.sources import Role, Source, SourceError
from chatoperator.spec import ChatCluster, IssuerSpec

OPERATOR_LABELS = {names.LABEL_NAME: names.MANAGED_BY, names.LABEL_COMPONENT: "operator"}
"""Of the operator's own pods, as the chart makes them."""

NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes sets it on every namespace."""

DNS_PORTS = (53, 5353)
"""In front of a resolver, and where some distributions' resolvers really listen: policies see the latter."""

WEB_PORTS = {"http": 80, "https": 443}


def policies(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """One for each kind of pod, for both directions. Raises SourceError."""
    used = sources.servers(cluster)
    dns = _rule("to", [], DNS_PORTS, udp=True)
    to_stores = [dns, *(_to(cluster, inputs, one) for one in used if one.role is not Role.REDIS)]
    to_all = [dns, *(_to(cluster, inputs, one) for one in used)]
    # Prometheus may be anywhere.
    operator, watched = _operator(inputs), cluster.spec.observability.service_monitor
    everybody = [_rule("from", [], [names.PORT])]
    inside = everybody if watched else [_rule("from", [operator], [names.PORT])]
    made = [
        (names.CHAT, everybody, to_all),
        (names.API, everybody, [*to_all, *_to_issuers(cluster)]),
        (names.WORKER, inside, to_all),
        (names.PROBE, inside, [*to_all, _to_pods(cluster)]),
        (names.SCHEMA, [], to_stores),
    ]
    ours = [_pods(cluster, one) for one in (names.CHAT, names.API, names.WORKER, names.PROBE)]
    for one in used:
        if one.development:
            also = operator if one.role is Role.REDIS else _pods(cluster, names.SCHEMA)
            made.append((one.component, [_rule("from", [*ours, also], [ports.DEFAULT[one.component]])], []))
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


def _to(cluster: ChatCluster, inputs: Inputs, source: Source) -> Manifest:
    """The way to Redis or a store."""
    if source.development:
        return _rule("to", [_pods(cluster, source.component)], [ports.DEFAULT[source.component]])
    if source.secret is not None:
        return _rule("to", [], inputs.redis_ports if source.role is Role.REDIS else inputs.store_ports)
    ports_of = ports.redis_ports if source.role is Role.REDIS else ports.store_ports
    return _rule("to", [], ports_of(source.url))


def _to_issuers(cluster: ChatCluster) -> list[Manifest]:
    """Where the keys of foreign issuers are fetched."""
    found = {_web_port(issuer) for issuer in cluster.spec.auth.issuers}
    return [_rule("to", [], sorted(found))] if found else []


def _to_pods(cluster: ChatCluster) -> Manifest:
    """Where the probe chats: straight to the pods, and not round by the way from outside."""
    return _rule("to", [_pods(cluster, names.CHAT), _pods(cluster, names.API)], [names.PORT])


def _web_port(issuer: IssuerSpec) -> int:
    try:
        parts = urlsplit(issuer.jwks_url)
        port = parts.port
    except ValueError:
        raise SourceError(f"spec.auth.issuers: the jwksUrl of {issuer.issuer} is not a URL") from None
    return port or WEB_PORTS.get(parts.scheme, WEB_PORTS["https"])


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
