"""What `kubectl chat` knows of a cluster: its resource, its pods, what they say of themselves, and its events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from chatclient.cli.common import Fail
from chatclient.cli.kubeapi import Kube, KubeRefused, Object, clusters, pods
from chatoperator.manifests.names import (
    CHAT,
    CONDEMNED,
    DRAIN,
    LABEL_CLUSTER,
    LABEL_COMPONENT,
    LABEL_REVISION,
    PROBE,
)
from chatoperator.resource_status import Status

ZONE = "topology.kubernetes.io/zone"
HUNDRED = 100
"""Events that are looked at, the newest ones."""

T = TypeVar("T")


class Numbers(Struct, frozen=True):
    """What a chat pod says of itself, `GET /statz`."""

    state: str = ""
    connections: int = 0
    users: int = 0
    messages_in: int = 0
    deliveries_out: int = 0
    migrated: int = 0
    slow_closed: int = 0
    rss_kib: int = 0
    cpu_s: float = 0.0
    degraded: list[str] = []


class _ProbedPod(Struct, frozen=True):
    ok: bool = True
    failing_since: int | None = None
    """Unix ms."""
    p99_ms: float | None = None


class Probed(Struct, frozen=True):
    """What the probe says of every chat pod."""

    pods: dict[str, _ProbedPod] = {}


class PodLook(Struct, frozen=True, kw_only=True):
    """A pod of the cluster. `age_s` and the like are seconds before the look."""

    name: str
    component: str
    state: str
    """pending, starting, stuck, ready, not ready, draining, stopping, ended, done."""
    why: str = ""
    """What hinders it, or why it goes."""
    node: str = ""
    zone: str = ""
    age_s: float
    revision: str = ""
    draining_s: float | None = None
    condemned: bool = False
    numbers: Numbers | None = None
    """None: it is no chat pod, does not answer, or you may not ask."""
    delivers: bool | None = None
    p99_ms: float | None = None


class Told(Struct, frozen=True):
    """An event of the cluster."""

    at: float
    """Unix time."""
    reason: str
    text: str
    warning: bool = False


class Look(Struct, frozen=True, kw_only=True):
    """A cluster, at one moment. `pods`: chat pods first, then by component and name. `told`: the newest last."""

    name: str
    namespace: str
    generation: int
    status: Status
    pods: list[PodLook]
    told: list[Told]
    resource: Object
    raw: dict[str, tuple[Object, Object | None]]
    """By pod: itself and its node, as the API server has them."""

    @property
    def chat_pods(self) -> list[PodLook]:
        return [pod for pod in self.pods if pod.component == CHAT]

    def pod(self, name: str) -> PodLook:
        """Raises Fail."""
        found = next((pod for pod in self.chat_pods if pod.name == name), None)
        if found is None:
            there = ", ".join(pod.name for pod in self.chat_pods) or "none"
            raise Fail(f"{self.name} has no chat pod {name}; there are: {there}")
        return found


async def which(kube: Kube, name: str | None) -> Object:
    """The resource of that name, or the only one in the namespace. Raises Fail and KubeRefused."""
    if name:
        try:
            return await kube.get(clusters(kube.namespace, name))
        except KubeRefused as error:
            if error.status == 404:
                raise Fail(f"there is no ChatCluster {name} in the namespace {kube.namespace}") from error
            raise
    try:
        found = await kube.items(clusters(kube.namespace))
    except KubeRefused as error:
        if error.status == 404:
            raise Fail("this Kubernetes knows no ChatClusters: install the chart first") from error
        raise
    if len(found) == 1:
        return found[0]
    if not found:
        raise Fail(
            f"there is no ChatCluster in the namespace {kube.namespace}: name another with --namespace"
        )
    names = ", ".join(sorted(one["metadata"]["name"] for one in found))
    raise Fail(f"there are several ChatClusters in the namespace {kube.namespace}: say which of {names}")


async def cluster_of(kube: Kube, pod: str) -> str:
    """The ChatCluster that a chat pod is of. Raises Fail and KubeRefused."""
    try:
        found = await kube.get(pods(kube.namespace, pod))
    except KubeRefused as error:
        if error.status == 404:
            raise Fail(f"there is no pod {pod} in the namespace {kube.namespace}") from error
        raise
    labels = found["metadata"].get("labels") or {}
    if labels.get(LABEL_COMPONENT) != CHAT or LABEL_CLUSTER not in labels:
        raise Fail(f"{pod} is no chat pod")
    return str(labels[LABEL_CLUSTER])


async def look(kube: Kube, name: str | None) -> Look:
    """Asked all at once. Raises Fail and KubeRefused."""
    resource = await which(kube, name)
    meta = resource["metadata"]
    found, events, nodes = await asyncio.gather(
        kube.items(pods(meta["namespace"]), {"labelSelector": f"{LABEL_CLUSTER}={meta['name']}"}),
        _events(kube, meta),
        _nodes(kube),
    )
    now = time.time()
    numbers, probed = await asyncio.gather(_numbers(kube, found), _probed(kube, found))
    looks = [_pod(one, nodes, numbers, probed, now) for one in found]
    looks.sort(key=lambda pod: (pod.component != CHAT, pod.component, pod.name))
    return Look(
        name=meta["name"],
        namespace=meta["namespace"],
        generation=meta.get("generation", 0),
        status=_status(resource),
        pods=looks,
        told=events,
        resource=resource,
        raw={_name(one): (one, nodes.get(_node(one))) for one in found},
    )


async def all_of(kube: Kube) -> list[Look]:
    """All clusters in all namespaces, by what the operator says of them, without their pods. Raises KubeRefused."""
    return [
        Look(
            name=one["metadata"]["name"],
            namespace=one["metadata"]["namespace"],
            generation=one["metadata"].get("generation", 0),
            status=_status(one),
            pods=[],
            told=[],
            resource=one,
            raw={},
        )
        for one in await kube.items(clusters(""))
    ]


async def _events(kube: Kube, meta: Object) -> list[Told]:
    """None when the person may not see them."""
    about = f"involvedObject.kind=ChatCluster,involvedObject.name={meta['name']}"
    try:
        found = await kube.items(f"/api/v1/namespaces/{meta['namespace']}/events", {"fieldSelector": about})
    except KubeRefused:
        return []
    told = [
        Told(
            seconds(one.get("eventTime") or one.get("lastTimestamp"), 0.0),
            one.get("reason") or "",
            one.get("message") or "",
            one.get("type") == "Warning",
        )
        for one in found
    ]
    return sorted(told, key=lambda one: one.at)[-HUNDRED:]


async def _nodes(kube: Kube) -> dict[str, Object]:
    """Empty when the person may not see them."""
    try:
        return {_name(one): one for one in await kube.items("/api/v1/nodes")}
    except KubeRefused:
        return {}


async def _numbers(kube: Kube, found: list[Object]) -> dict[str, Numbers]:
    chat = [one for one in found if component_of(one) == CHAT and is_running(one)]
    told = await asyncio.gather(
        *(kube.ask(one["metadata"]["namespace"], _name(one), "statz") for one in chat)
    )
    known = {_name(one): _read(answer, Numbers) for one, answer in zip(chat, told, strict=True)}
    return {name: numbers for name, numbers in known.items() if numbers is not None}


async def _probed(kube: Kube, found: list[Object]) -> Probed:
    for one in found:
        if component_of(one) == PROBE and is_running(one):
            answer = _read(await kube.ask(one["metadata"]["namespace"], _name(one), "statz"), Probed)
            if answer is not None:
                return answer
    return Probed()


def _pod(
    one: Object, nodes: Mapping[str, Object], numbers: Mapping[str, Numbers], probed: Probed, now: float
) -> PodLook:
    meta, name = one["metadata"], _name(one)
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    own, verdict = numbers.get(name), probed.pods.get(name)
    drain = annotations.get(DRAIN)
    state, why = _state(one, drain is not None or (own is not None and own.state == "draining"))
    condemned = CONDEMNED in annotations
    if condemned and not why:
        why = "was asked to go"
    if verdict is not None and not verdict.ok:
        why = why or "does not deliver"
    node = _node(one)
    return PodLook(
        name=name,
        component=component_of(one),
        state=state,
        why=why,
        node=node,
        zone=((nodes.get(node) or {}).get("metadata") or {}).get("labels", {}).get(ZONE, ""),
        age_s=max(0.0, now - seconds(meta.get("creationTimestamp"), now)),
        revision=labels.get(LABEL_REVISION, ""),
        draining_s=None if drain is None else max(0.0, now - seconds(drain, now)),
        condemned=condemned,
        numbers=own,
        delivers=None if verdict is None else verdict.ok,
        p99_ms=None if verdict is None else verdict.p99_ms,
    )


def _state(one: Object, draining: bool) -> tuple[str, str]:
    """And what hinders it."""
    status = one.get("status") or {}
    conditions = {found["type"]: found for found in status.get("conditions") or []}
    if status.get("phase") == "Succeeded":
        return "done", ""
    if status.get("phase") == "Failed":
        return "ended", status.get("reason") or _end(status)
    if one["metadata"].get("deletionTimestamp"):
        return "stopping", ""
    if draining:
        return "draining", ""
    if conditions.get("Ready", {}).get("status") == "True":
        return "ready", ""
    if not _node(one):
        return "pending", conditions.get("PodScheduled", {}).get("message") or ""
    waiting = [
        container["state"]["waiting"]
        for container in status.get("containerStatuses") or []
        if "waiting" in (container.get("state") or {})
    ]
    stuck = [
        found for found in waiting if found.get("reason") not in ("ContainerCreating", "PodInitializing")
    ]
    if stuck:
        return "stuck", f"{stuck[0].get('reason')}: {stuck[0].get('message') or ''}".rstrip(": ")
    return ("starting", "") if waiting or not status.get("containerStatuses") else ("not ready", "")


def _end(status: Object) -> str:
    """How its process ended."""
    for container in status.get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            return f"exit code {ended.get('exitCode')}"
    return ""


def _status(resource: Object) -> Status:
    """Empty while the operator has not come to it, and when another version has written it."""
    try:
        return msgspec.convert(resource.get("status") or {}, Status)
    except msgspec.ValidationError:
        return Status()


def _read(answer: Object | None, kind: type[T]) -> T | None:
    try:
        return None if answer is None else msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        return None


def seconds(text: object, otherwise: float) -> float:
    """An RFC 3339 time as Unix time."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return otherwise


def component_of(one: Object) -> str:
    return str((one["metadata"].get("labels") or {}).get(LABEL_COMPONENT, ""))


def is_running(one: Object) -> bool:
    return (one.get("status") or {}).get("phase") == "Running"


def _name(one: Object) -> str:
    return str(one["metadata"]["name"])


def _node(one: Object) -> str:
    return str((one.get("spec") or {}).get("nodeName") or "")
