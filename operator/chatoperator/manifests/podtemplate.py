"""One pod of a service, with what a person lays over it.

What the operator says wins over a person's labels and environment where others find the pod by it; where it only
chooses well, the person wins.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from chatkernel.settings import CONFIG_ENV
from chatoperator.manifests import names
from chatoperator.manifests.inputs import Manifest
from chatoperator.manifests.quantities import canonical
from chatoperator.manifests.security import container_context, pod_context, without_nulls
from chatoperator.manifests.volumes import mounts
from chatoperator.spec import ChatCluster, EnvVar, PodTemplate, Resources

SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""An autoscaler may empty the node: it evicts, and a pod that is evicted drains first."""


class Part(Struct, frozen=True, kw_only=True):
    """A kind of pod, as the operator would have it. `resources`, `tolerations` hold where the person says none."""

    component: str
    command: tuple[str, ...]
    template: PodTemplate
    resources: Resources
    grace_s: int
    revision: str = ""
    annotations: dict[str, str] = {}
    env: tuple[Manifest, ...] = ()
    person_env: tuple[EnvVar, ...] = ()
    """Besides the template's, which wins."""
    volumes: tuple[Manifest, ...] = ()
    probes: dict[str, Manifest] = {}
    lifecycle: Manifest = {}
    tolerations: tuple[Manifest, ...] = ()
    listens: bool = True
    """It serves, and there are several: what does not is one that ends by itself."""
    restart: str = ""


def pod_template(cluster: ChatCluster, part: Part) -> Manifest:
    """`metadata` and `spec`, without a name. `cluster` is a resolved one."""
    template, spec = part.template, cluster.spec
    made: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service for each chat pod would be seven variables in every pod
        "serviceAccountName": template.service_account_name or names.pods_account(cluster.metadata.name),
        "securityContext": pod_context(template.security_context),
        "terminationGracePeriodSeconds": part.grace_s,
        "containers": [_container(cluster, part)],
        "volumes": list(part.volumes),
        "tolerations": [*map(_toleration, template.tolerations), *_default_tolerations(part)],
        "topologySpreadConstraints": _spread(cluster, part) if part.listens else [],
        "nodeSelector": template.node_selector,
        "affinity": without_nulls(template.affinity),
        "priorityClassName": template.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        "restartPolicy": part.restart,
    }
    return {
        "metadata": {"labels": _labels(cluster, part), "annotations": _annotations(cluster, part)},
        "spec": without_empty(made),
    }


def http_probe(path: str, *, period_s: int, timeout_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def variable(name: str, value: str) -> Manifest:
    return {"name": name, "value": value} if value else {"name": name}


def from_field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


IDENTITY = (
    from_field(names.POD_NAME_ENV, "metadata.name"),
    from_field(names.POD_IP_ENV, "status.podIP"),
    variable(CONFIG_ENV, f"{names.SETTINGS_DIR}/{names.SETTINGS_KEY}"),
)
"""The environment of every service: who it is, and where its settings are."""


def own_sizes(template: PodTemplate) -> PodTemplate:
    """What is laid over pods that a person has no template for: another's, without its size."""
    return msgspec.structs.replace(template, resources=Resources())


def _labels(cluster: ChatCluster, part: Part) -> dict[str, str]:
    own = names.labels(cluster.metadata.name, part.component)
    if part.revision:
        own[names.LABEL_REVISION] = part.revision
    return {**part.template.labels, **own}


def _annotations(cluster: ChatCluster, part: Part) -> dict[str, str]:
    made = {SAFE_TO_EVICT: "true", **part.template.annotations, **part.annotations}
    if cluster.spec.version:
        made[names.RELEASE] = cluster.spec.version
    return made


def _container(cluster: ChatCluster, part: Part) -> Manifest:
    ports = (
        [{"name": names.PORT_NAME, "containerPort": names.PORT, "protocol": "TCP"}] if part.listens else []
    )
    made: Manifest = {
        "name": part.component,
        "image": cluster.spec.image,
        "imagePullPolicy": cluster.spec.image_pull_policy,
        "command": list(part.command),
        "env": _env(part),
        "ports": ports,
        "resources": resources(part.template.resources, part.resources),
        "securityContext": container_context(part.template.security_context),
        "volumeMounts": mounts(list(part.volumes)),
        "lifecycle": part.lifecycle,
        # What a process that could not start said last is the message of its pod.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **part.probes,
    }
    return without_empty(made)


def _env(part: Part) -> list[Manifest]:
    """The operator's first, so that a person's may refer to them."""
    own = {one["name"]: one for one in part.env}
    given = {one.name: one.value for one in (*part.person_env, *part.template.env)}
    return [*own.values(), *(variable(name, value) for name, value in given.items() if name not in own)]


def resources(given: Resources, default: Resources) -> Manifest:
    """The person's whole, or else ours: half of each could ask for more than it allows."""
    chosen = given if given.requests or given.limits else default
    return without_empty(
        {
            "requests": {name: canonical(value) for name, value in chosen.requests.items()},
            "limits": {name: canonical(value) for name, value in chosen.limits.items()},
        }
    )


def _toleration(toleration: Any) -> Manifest:
    made: Manifest = msgspec.to_builtins(toleration)
    return {key: value for key, value in made.items() if value not in ("", None)}


def _default_tolerations(part: Part) -> list[Manifest]:
    """Those whose taint the person says nothing of."""
    given = {(one.key, one.effect) for one in part.template.tolerations}
    spoken = {key for key, effect in given if effect in ("", "NoExecute")}
    return [one for one in part.tolerations if one["key"] not in spoken and "" not in spoken]


def _spread(cluster: ChatCluster, part: Part) -> list[Manifest]:
    selector = {"matchLabels": names.selector(cluster.metadata.name, part.component)}
    given = [without_nulls(one) for one in part.template.topology_spread]
    if given:
        return [{"labelSelector": selector, **one} for one in given]
    return [
        {
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "maxSkew": 1,
            "labelSelector": selector,
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def without_empty(made: Manifest) -> Manifest:
    """An empty field is none: the API server drops most of them."""
    return {key: value for key, value in made.items() if value not in ("", [], {}, None)}
