"""Chat pods, and the revisions that they are of.

A revision is kept whole, so that a pod of an older one can be started again when a newer one is given up.
"""

from __future__ import annotations

import copy

from chatoperator.manifests import exposure, names
from chatoperator.manifests.inputs import (
    Inputs,
    Manifest,
    Owner,
    metadata,
    owner_of,
    owner_references,
    resolved,
)
from chatoperator.manifests.podtemplate import IDENTITY, Part, http_probe, pod_template
from chatoperator.manifests.settings import config_map, settings_file
from chatoperator.manifests.volumes import volumes
from chatoperator.model import PodKind
from chatoperator.revision import revision_of
from chatoperator.spec import ChatCluster, Resources

KIB_PER_CONNECTION = 64
"""Of the memory limit: three times what an idle connection takes, for what waits to be sent."""
IDLE_KIB_PER_CONNECTION = 16
"""Of the memory request."""
BASE_MIB = 128
BURST_MIB = 512
"""What a pod takes beside its connections, when it idles and at most."""

FROZEN_GRACE_S = 5
"""A process that does not answer does not drain, either."""

PROBES = {
    # A pod that waits for its store or Redis is not restarted for that; the plan gives up on it in time.
    "startupProbe": http_probe("/healthz", period_s=1, timeout_s=3, failures=3600),
    "readinessProbe": http_probe("/readyz", period_s=1, timeout_s=3, failures=3),
    # Only the process itself is asked about: half a minute without an answer is a process that hangs.
    "livenessProbe": {
        **http_probe("/healthz", period_s=5, timeout_s=5, failures=6),
        "terminationGracePeriodSeconds": FROZEN_GRACE_S,
    },
}


def revision_objects(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """The ConfigMap with the settings and the ControllerRevision with the pod's template, both named
    `names.of_revision`. They never change: what is there already is left as it is, also when this version of the
    operator would write it differently. Raises SourceError."""
    cluster = resolved(cluster, inputs)
    revision = revision_of(cluster.spec, PodKind.CHAT)
    name = names.of_revision(cluster.metadata.name, revision)
    settings = config_map(
        cluster, inputs, name, names.CHAT, {names.SETTINGS_KEY: settings_file(cluster, names.CHAT)}
    )
    settings["immutable"] = True
    kept: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(cluster, owner_of(cluster, inputs), name, names.CHAT),
        "revision": 1,  # has to be given; ours are told apart by name
        "data": _template(cluster, revision),
    }
    for one in (settings, kept):
        one["metadata"]["labels"][names.LABEL_REVISION] = revision
    return [settings, kept]


def template_of(revision: Manifest) -> Manifest:
    """A ControllerRevision's pod template, for `pod`."""
    template: Manifest = revision["data"]
    return template


def pod(template: Manifest, name: str, owner: Owner) -> Manifest:
    """A pod of the revision that `template` is of."""
    made = copy.deepcopy(template)
    made["metadata"] = {"name": name, **made["metadata"], "ownerReferences": owner_references(owner)}
    made["metadata"]["labels"][names.LABEL_POD] = name
    return made


def pod_exposure(cluster: ChatCluster, pod_name: str, pod_uid: str) -> list[Manifest]:
    """What reaches this one pod from outside, owned by it: a Service and an Ingress or HTTPRoute. Empty without
    `spec.exposure`."""
    return exposure.of_pod(cluster, pod_name, pod_uid)


def default_resources(connections: int) -> Resources:
    """For as many connections as discovery gives the pod. None of CPU at most: it would only add latency."""
    idle = BASE_MIB + connections * IDLE_KIB_PER_CONNECTION // 1024
    most = BURST_MIB + connections * KIB_PER_CONNECTION // 1024
    return Resources(
        requests={"cpu": "200m", "memory": f"{idle}Mi"},
        limits={"memory": f"{most}Mi"},
    )


def _template(cluster: ChatCluster, revision: str) -> Manifest:
    pods = cluster.spec.chat_pods
    part = Part(
        component=names.CHAT,
        command=("chatpod",),
        template=pods.pod,
        resources=default_resources(pods.connections_per_pod),
        grace_s=pods.termination_grace_period_seconds,
        revision=revision,
        env=IDENTITY,
        person_env=tuple(pods.env),
        volumes=tuple(volumes(cluster, names.of_revision(cluster.metadata.name, revision))),
        probes=PROBES,
        restart="Never",  # a dead pod is replaced under another name: its own may be somebody's memory of it
    )
    template = pod_template(cluster, part)
    meta = {"namespace": cluster.metadata.namespace, **template["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
