"""The pods that Kubernetes itself keeps: the API, the worker, and the probe."""

from __future__ import annotations

import math

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.manifests.podtemplate import IDENTITY, Part, http_probe, own_sizes, pod_template
from chatoperator.manifests.settings import settings_file, short_hash
from chatoperator.manifests.volumes import volumes
from chatoperator.spec import ChatCluster, PodTemplate, Resources

API_SERVED_AFTER_S = 5
"""An API pod serves on for so long after it was told to end: until then every proxy has heard."""
GRACE_S = 30
REVISIONS_KEPT = 3

PROBES = {
    "startupProbe": http_probe("/healthz", period_s=1, timeout_s=3, failures=600),
    "readinessProbe": http_probe("/readyz", period_s=2, timeout_s=3, failures=3),
    # Whether the process answers, and not whether Redis or the store does: a restart heals neither.
    "livenessProbe": http_probe("/healthz", period_s=10, timeout_s=5, failures=4),
}

AWAY_S = 30
TOLERATIONS = tuple(
    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": AWAY_S}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
)
"""Pods of a node that is away are made elsewhere after this, and not after Kubernetes' five minutes."""

_SERVE_ON: Manifest = {"preStop": {"sleep": {"seconds": API_SERVED_AFTER_S}}}


def deployments(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """Those of a resolved cluster. Raises SourceError."""
    spec = cluster.spec
    return [
        _deployment(cluster, inputs, _api(cluster), spec.api_pods.replicas),
        _deployment(cluster, inputs, _worker(cluster), spec.worker.replicas),
        _deployment(cluster, inputs, _probe(cluster), 1),
    ]


def deployment(
    cluster: ChatCluster,
    inputs: Inputs,
    component: str,
    template: Manifest,
    *,
    replicas: int,
    strategy: Manifest,
    ready_deadline_s: int = 300,
) -> Manifest:
    """`ready_deadline_s`: that its pods do not get ready is told after this long. As by default, there is time for a
    large image."""
    name = cluster.metadata.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(cluster, owner_of(cluster, inputs), names.of(name, component), component),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": names.selector(name, component)},
            "strategy": strategy,
            "progressDeadlineSeconds": ready_deadline_s,
            "revisionHistoryLimit": REVISIONS_KEPT,
            "template": template,
        },
    }


def _deployment(cluster: ChatCluster, inputs: Inputs, part: Part, replicas: int) -> Manifest:
    # A pod that is there goes when the new one is ready, so that a bad image takes none away.
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    template = pod_template(cluster, part)
    return deployment(
        cluster,
        inputs,
        part.component,
        template,
        replicas=replicas,
        strategy=strategy,
        ready_deadline_s=math.ceil(cluster.spec.rollout.ready_deadline_seconds),
    )


def _api(cluster: ChatCluster) -> Part:
    template = cluster.spec.api_pods.pod
    size = _size("100m", "256Mi", "1Gi")
    return _part(cluster, names.API, "apipod", template, size, lifecycle=_SERVE_ON)


def _worker(cluster: ChatCluster) -> Part:
    template = cluster.spec.worker.pod
    return _part(cluster, names.WORKER, "chatworker", template, _size("50m", "128Mi", "1Gi"))


def _probe(cluster: ChatCluster) -> Part:
    """What is laid over the worker's pods is over these, too, but for their size."""
    template = own_sizes(cluster.spec.worker.pod)
    return _part(cluster, names.PROBE, "prober", template, _size("50m", "96Mi", "256Mi"))


def _part(
    cluster: ChatCluster,
    component: str,
    command: str,
    template: PodTemplate,
    size: Resources,
    *,
    lifecycle: Manifest | None = None,
) -> Part:
    return Part(
        component=component,
        command=(command,),
        template=template,
        resources=size,
        grace_s=GRACE_S,
        annotations={names.SETTINGS: short_hash(settings_file(cluster, component))},
        env=IDENTITY,
        volumes=tuple(volumes(cluster, names.of(cluster.metadata.name, component))),
        probes=PROBES,
        lifecycle=lifecycle or {},
        tolerations=TOLERATIONS,
    )


def _size(cpu: str, memory: str, memory_most: str) -> Resources:
    return Resources(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory_most})
