"""Which revision of chat pods is wanted: the spec's, or the last good one once the spec's has proved bad. Pure.

A revision is good once all chat pods are of it, ready, and deliver, for a while. One that never was good is given up
when its pods do not get ready, die young again and again, or spoil the delivery; it is tried again when the spec
names another one in between. While Redis or the store is away, nothing is held against any.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, structs

from chatoperator.model import Observed, PodKind, PodView
from chatoperator.revision import replicas_of, revision_of
from chatoperator.spec import Spec

GOOD_AFTER_S = 30.0
"""All pods have to be well for this long before there is no way back from their revision."""
UNHEALTHY_S = 10.0
"""Delivery that is disturbed for less than this says nothing about a revision."""
UNKNOWN_HOLD_S = 60.0
"""A prober that says nothing for longer than this does not hold up a rollout."""
UNSCHEDULED_S = 10.0
"""A scheduler that has room takes less."""


class Undone(Struct, frozen=True):
    """A revision that was given up."""

    revision: str
    at: float
    reason: str


class RolloutMemory(Struct, frozen=True):
    """To go on after a restart, give at least `last_good` and `undone`: without, the revision of most ready pods is
    taken for the last good one, and a bad one is tried once more."""

    last_good: str = ""
    undone: Undone | None = None
    wanted: str = ""
    """The spec's revision, and since when."""
    wanted_since: float = 0.0
    late: frozenset[str] = frozenset()
    """Pods of it that were not ready in time, since the last that was."""
    well_since: float | None = None
    """Since when all chat pods are of the spec's revision and well."""


def wanted_revision(spec: Spec, observed: Observed, kind: PodKind) -> str:
    """The revision that pods of a kind are to have: that of the spec, unless it was undone, or cannot start yet.
    Until it can, what serves goes on, also if it has yet to prove good: nothing is taken back for what comes."""
    wanted = revision_of(spec, kind)
    if kind is not PodKind.CHAT:
        return wanted
    if wanted in observed.undone:
        return observed.last_good or wanted
    if wanted in observed.held:
        return _most_serving(observed) or observed.last_good or wanted
    return wanted


def wanted_replicas(spec: Spec, observed: Observed, kind: PodKind) -> int:
    if kind is PodKind.CHAT and observed.desired is not None:
        return observed.desired
    return replicas_of(spec, kind)


class Gate(Struct, frozen=True):
    """What a rollout waits for besides readiness."""

    is_open: bool
    """Pods of the old revision may go."""
    needs_proof: bool
    """A new pod counts only when the prober has delivered through it."""


class Wanted(Struct, frozen=True):
    """What there is to be of a kind of pods."""

    kind: PodKind
    replicas: int
    revision: str
    surge: int
    gate: Gate
    fallback: str = ""
    """While no node takes pods of `revision`: the last good one, of which lost pods are replaced. "" is none."""


def wanted_of(spec: Spec, observed: Observed, kind: PodKind, now: float) -> Wanted:
    revision = wanted_revision(spec, observed, kind)
    gate = _gate(spec, observed, kind, revision, now)
    waits = any(pod.revision == revision and finds_no_node(pod, now) for pod in _chat_pods(observed))
    fallback = observed.last_good if kind is PodKind.CHAT and waits and observed.last_good != revision else ""
    return Wanted(kind, wanted_replicas(spec, observed, kind), revision, spec.rollout.surge, gate, fallback)


def _gate(spec: Spec, observed: Observed, kind: PodKind, revision: str, now: float) -> Gate:
    """The way back to the last good revision is always open: what runs may be what spoils the delivery."""
    delivery = observed.delivery
    going_back = revision == observed.last_good
    if kind is not PodKind.CHAT or delivery is None or going_back or not spec.rollout.gate:
        return Gate(is_open=True, needs_proof=False)
    if delivery.healthy is None:
        return Gate(is_open=now - delivery.since >= UNKNOWN_HOLD_S, needs_proof=False)
    return Gate(is_open=delivery.healthy, needs_proof=True)


def judge(spec: Spec, observed: Observed, memory: RolloutMemory, now: float) -> RolloutMemory:
    """What is known now of the revisions. `observed.desired` is to be set already."""
    if spec.pause:
        return memory
    wanted = revision_of(spec, PodKind.CHAT)
    if memory.wanted != wanted:
        memory = RolloutMemory(memory.last_good, _still_undone(memory, wanted), wanted, now)
    last_good = memory.last_good or _most_ready(observed, wanted)
    undone = memory.undone if spec.rollout.undo else None
    late = _late(spec, observed, memory, now)
    if undone is None and spec.rollout.undo and last_good not in ("", wanted):
        reason = _fault(spec, observed, structs.replace(memory, late=late), now)
        undone = Undone(wanted, now, reason) if reason else None
    well_since = None
    if undone is None and _is_well(spec, observed, wanted):
        well_since = now if memory.well_since is None else memory.well_since
        last_good = wanted if now - well_since >= GOOD_AFTER_S else last_good
    return RolloutMemory(last_good, undone, wanted, memory.wanted_since, late, well_since)


def _chat_pods(observed: Observed) -> list[PodView]:
    return [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone]


def _serving(observed: Observed) -> list[PodView]:
    return [pod for pod in _chat_pods(observed) if pod.ready and not pod.draining and not pod.stopping]


def _may_be_judged(observed: Observed) -> bool:
    return observed.registry is not None and observed.storage_up


def _late(spec: Spec, observed: Observed, memory: RolloutMemory, now: float) -> frozenset[str]:
    own = [pod for pod in _chat_pods(observed) if pod.revision == memory.wanted]
    if any(pod.ready for pod in own):
        return frozenset()
    if not _may_be_judged(observed):
        return memory.late
    late = (pod.name for pod in own if not pod.stopping and missed_deadline(spec, pod, observed, now))
    return memory.late | frozenset(late)


def _fault(spec: Spec, observed: Observed, memory: RolloutMemory, now: float) -> str:
    """What is wrong with the spec's revision, in words; "" if nothing is."""
    if not _may_be_judged(observed):
        return ""
    pods = _chat_pods(observed)
    own = [pod for pod in pods if pod.revision == memory.wanted and not pod.stopping]
    return (
        _failures(spec, observed, memory)
        or next((f"{pod.name} stays unready" for pod in own if _stays_unready(spec, pod, observed, now)), "")
        or _delivery_fault(spec, observed, own, pods, now)
    )


def _failures(spec: Spec, observed: Observed, memory: RolloutMemory) -> str:
    """Pods that died young, in a row, and pods that were not ready in time."""
    died = observed.failures.get((PodKind.CHAT, memory.wanted))
    deaths = died.count if died is not None and died.last_at >= memory.wanted_since else 0
    if deaths + len(memory.late) < spec.rollout.undo_after_failures:
        return ""
    told = [
        f"{deaths} in a row died soon after they were started" if deaths else "",
        f"{len(memory.late)} were not ready within {spec.rollout.ready_deadline_seconds:g} s"
        if memory.late
        else "",
    ]
    return f"of its pods {' and '.join(filter(None, told))}"


def _stays_unready(spec: Spec, pod: PodView, observed: Observed, now: float) -> bool:
    """It was ready, and is not any more. It answers, so it is not replaced, and the rollout would wait for ever."""
    if pod.unready_since is None or not pod.ever_ready or pod.node_lost or pod.draining:
        return False
    return now - max(pod.unready_since, observed.registry_since or 0.0) > _patience_s(spec)


def _patience_s(spec: Spec) -> float:
    """As long as it takes to give up a revision whose pods never get ready."""
    return spec.rollout.ready_deadline_seconds * spec.rollout.undo_after_failures


def finds_no_node(pod: PodView, now: float, for_s: float = UNSCHEDULED_S) -> bool:
    """It waits for one, and has for so long."""
    return not pod.scheduled and not pod.stopping and now - pod.started_at >= for_s


def missed_deadline(spec: Spec, pod: PodView, observed: Observed, now: float) -> bool:
    """It never became ready, although it had a node, and a chat pod Redis, for long enough."""
    begin = pod.started_at
    if pod.kind is PodKind.CHAT and observed.registry_since is not None:
        begin = max(begin, observed.registry_since)
    return pod.scheduled and not pod.ever_ready and now - begin > spec.rollout.ready_deadline_seconds


def _delivery_fault(
    spec: Spec, observed: Observed, own: list[PodView], pods: list[PodView], now: float
) -> str:
    """Pods of this revision do not deliver while others do; or the delivery as a whole suffers since they are there,
    which may be something else, and is given time."""
    others = [pod for pod in pods if pod not in own]
    mute = [
        pod for pod in own if pod.delivers is False and now - (pod.undelivered_since or now) >= UNHEALTHY_S
    ]
    if mute and any(pod.delivers for pod in others) and not any(pod.delivers for pod in own):
        return f"{mute[0].name} does not deliver messages, and pods of other revisions do"
    delivery = observed.delivery
    if delivery is None or delivery.healthy is not False or not any(pod.ready for pod in own):
        return ""
    only_others_fail = any(pod.delivers is False for pod in others) and all(pod.delivers for pod in own)
    began_with_it = delivery.since >= min(pod.started_at for pod in own)
    if began_with_it and not only_others_fail and now - delivery.since >= _patience_s(spec):
        return "messages are not delivered since its pods are there"
    return ""


def _still_undone(memory: RolloutMemory, wanted: str) -> Undone | None:
    return memory.undone if memory.undone is not None and memory.undone.revision == wanted else None


def _most_ready(observed: Observed, wanted: str) -> str:
    """After a restart in the middle of a rollout: the revision that is being replaced."""
    ready = Counter(
        pod.revision
        for pod in observed.pods
        if pod.kind is PodKind.CHAT and pod.ready and pod.alive and pod.revision != wanted
    )
    return max(ready, key=lambda revision: (ready[revision], revision), default="")


def _most_serving(observed: Observed) -> str:
    """The revision of most pods that serve, in doubt the last good one; "" while none does."""
    counts = Counter(pod.revision for pod in _serving(observed))
    return max(counts, key=lambda each: (counts[each], each == observed.last_good, each), default="")


def _is_well(spec: Spec, observed: Observed, wanted: str) -> bool:
    delivers = observed.delivery is None or observed.delivery.healthy is not False
    return (
        observed.registry is not None
        and delivers
        and all(pod.revision == wanted and pod.delivers is not False for pod in _chat_pods(observed))
        and len(_serving(observed)) >= wanted_replicas(spec, observed, PodKind.CHAT)
    )
