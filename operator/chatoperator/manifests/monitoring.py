"""What lets Prometheus' operator find the pods."""

from __future__ import annotations

from chatoperator.manifests import names, services
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.spec import ChatCluster

COMPONENT = "monitoring"

ASKED = (names.CHAT, names.WORKER, names.PROBE)
"""Whose pods have a Service for this alone; the API has one anyway."""

_LABEL = {names.LABEL_METRICS: "true"}


def objects(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """Headless Services and a ServiceMonitor; nothing unless it is asked for. Where Kubernetes does not know
    ServiceMonitors, the last cannot be applied."""
    observability = cluster.spec.observability
    if not observability.service_monitor:
        return []
    found = [services.headless(cluster, inputs, component) for component in ASKED]
    for one in found:
        mark(one)
    name = names.of(cluster.metadata.name, COMPONENT)
    meta = metadata(cluster, owner_of(cluster, inputs), name, COMPONENT)
    meta["labels"] = {**observability.labels, **meta["labels"]}
    monitor = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": {names.LABEL_CLUSTER: cluster.metadata.name, **_LABEL}},
            "targetLabels": [names.LABEL_CLUSTER, names.LABEL_COMPONENT],
            "podTargetLabels": [names.LABEL_REVISION],
            "endpoints": [{"port": names.PORT_NAME, "path": "/metrics"}],
        },
    }
    return [*found, monitor]


def mark(service: Manifest) -> None:
    """Its pods are asked for their metrics."""
    service["metadata"]["labels"] |= _LABEL
