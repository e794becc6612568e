"""From a chat pod as the API server has it, and what registry and prober say of it, to what the plan sees. Pure.

Times are Unix seconds: the API server's, so that they outlive the operator.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from chatkernel.registry import PodEntry, PodState
from chatoperator.kube.kinds import Object, annotations_of, labels_of, name_of
from chatoperator.manifests.names import CONDEMNED, DRAIN, LABEL_REVISION
from chatoperator.model import PodKind, PodView

ZONE = "topology.kubernetes.io/zone"
OVERLAP_MS = 3_000
"""An entry that was written less than this after the last that was seen when a pod heard that it stays may have been
on its way then: pods write theirs every second, and at once when they are told something."""
COUNTED_S = 5.0
"""How long what a pod has said of its clients counts. One that drains is asked every second; any other when it is
new, and has nobody yet."""


class PodMemory(Struct):
    """What is known of a pod besides what can be read at once."""

    ever_ready: bool = False
    node_seen: bool = False
    """Its node was there once."""
    lease_until: int = 0
    answered_at: float | None = None
    told_since: float | None = None
    """Since when it says itself that it drains."""
    stays_from: int | None = None
    """`lease_until` of its entry when it heard that it stays after all."""
    connections: int | None = None
    counted_at: float | None = None
    """As it said itself when it was asked, and when: for as long as the registry has nothing."""
    incarnation: str = ""
    """As it said itself, and when."""
    told_at: float | None = None
    asked_at: float | None = None
    """When it was last asked for that, and has never said it."""


class Surroundings(Struct, frozen=True):
    """`entry`: under the pod's name. `registry_known`: Redis answers, so that a missing entry means something."""

    entry: PodEntry | None
    registry_known: bool
    node: Object | None
    nodes_known: bool
    delivers: bool | None = None
    undelivered_since: float | None = None


def view_of(pod: Object, memory: PodMemory, around: Surroundings, now: float) -> PodView:
    """And notes in `memory` what has to be remembered."""
    ready = _condition(pod, "Ready")
    entry = own_entry(memory, around)
    memory.ever_ready |= is_ready(pod) or entry is not None or DRAIN in annotations_of(pod)
    _note_entry(memory, entry, around, now)
    memory.node_seen |= around.node is not None
    intent = annotations_of(pod).get(DRAIN)
    told = entry is not None and entry.state is PodState.DRAINING and not _is_of_before(memory, entry)
    if told and memory.told_since is None:
        memory.told_since = now
    return PodView(
        name=name_of(pod),
        kind=PodKind.CHAT,
        revision=labels_of(pod).get(LABEL_REVISION, ""),
        started_at=started_at(pod, now),
        incarnation=memory.incarnation or (entry.incarnation if entry is not None else ""),
        told_at=memory.told_at,
        alive=is_alive(pod),
        ready=is_ready(pod) and is_alive(pod) and not is_stopping(pod),
        ever_ready=memory.ever_ready,
        unready_since=None
        if is_ready(pod) or ready is None
        else unix_s(ready.get("lastTransitionTime"), now),
        answered_at=memory.answered_at,
        drain_intent=intent is not None,
        drain_told=told,
        draining_since=unix_s(intent, now) if intent is not None else memory.told_since,
        condemned=CONDEMNED in annotations_of(pod) or _is_cordoned(around.node),
        stopping=is_stopping(pod),
        connections=entry.connections if entry is not None else _counted(memory, now),
        zone=_zone(around.node),
        scheduled=bool(_node_name(pod)),
        node_lost=around.nodes_known and memory.node_seen and _is_lost(around.node),
        delivers=around.delivers,
        undelivered_since=around.undelivered_since,
    )


def is_alive(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    """Its readiness check passes, as its node last said."""
    ready = _condition(pod, "Ready")
    return ready is not None and ready.get("status") == "True"


def is_stopping(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def node_of(pod: Object) -> str:
    """ "" while it has none."""
    return _node_name(pod)


def ip_of(pod: Object) -> str:
    """ "" while it has none."""
    return str((pod.get("status") or {}).get("podIP") or "")


def started_at(pod: Object, now: float) -> float:
    """Since when it has a node; before, since when it was made."""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "True":
        return unix_s(scheduled.get("lastTransitionTime"), now)
    return unix_s(pod["metadata"].get("creationTimestamp"), now)


def unix_s(text: object, now: float) -> float:
    """Of an RFC 3339 time, never later than now: clocks differ. What is none is now."""
    try:
        return min(datetime.fromisoformat(str(text)).timestamp(), now)
    except ValueError:
        return now


def rfc3339(unix: float) -> str:
    """In UTC, with whole seconds, as Kubernetes writes times."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def own_entry(memory: PodMemory, around: Surroundings) -> PodEntry | None:
    """What the pod itself has written: others may have done so under its name. Until it is asked nobody knows."""
    entry = around.entry
    is_foreign = entry is not None and memory.incarnation not in ("", entry.incarnation)
    return None if is_foreign else entry


def _counted(memory: PodMemory, now: float) -> int | None:
    is_fresh = memory.counted_at is not None and now - memory.counted_at < COUNTED_S
    return memory.connections if is_fresh else None


def _is_of_before(memory: PodMemory, entry: PodEntry) -> bool:
    """The pod stays, and its entry has yet to say so: it and the pod's answer are read one after the other. Leases
    are written by one clock, so nobody's own is asked."""
    return memory.stays_from is not None and entry.lease_until < memory.stays_from + OVERLAP_MS


def _note_entry(memory: PodMemory, entry: PodEntry | None, around: Surroundings, now: float) -> None:
    """A lease that goes on is an answer. While no lease can be seen, nobody is silent."""
    if not around.registry_known:
        memory.answered_at = now
    elif entry is not None and entry.lease_until != memory.lease_until:
        memory.lease_until, memory.answered_at = entry.lease_until, now


def _condition(pod: Object, kind: str) -> Object | None:
    found: Object
    for found in (pod.get("status") or {}).get("conditions") or []:
        if found.get("type") == kind:
            return found
    return None


def _node_name(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _zone(node: Object | None) -> str:
    return "" if node is None else labels_of(node).get(ZONE, "")


def _is_cordoned(node: Object | None) -> bool:
    return node is not None and bool(node["spec"].get("unschedulable"))


def _is_lost(node: Object | None) -> bool:
    """It is no node of the cluster any more, or its kubelet is not heard of."""
    return node is None or any(found["status"] != "True" for found in node["status"]["conditions"])
