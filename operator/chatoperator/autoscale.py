"""How many chat pods there should be, by the connections that they hold. Pure: its memory comes in and goes out.

    wanted = (connections + headroom) / (connectionsPerPod x targetUtilisation), rounded up, within min and max

More pods at once; fewer only when fewer would have been enough for the whole of the stabilisation window, so a load
that swings round a threshold changes nothing. What is not known makes pods neither fewer nor more.
"""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct

from chatoperator.model import Observed, PodKind
from chatoperator.spec import Autoscaling, Spec

DISTURBED_S = 15.0
"""After a chat pod failed its clients are on their way back (a lease and a second, 6 s) and in no count."""
ROUNDING = 1e-9
"""7 000 connections at 0.7 of 10 000 are one pod, whatever the product is in binary."""


class LimitedBy(StrEnum):
    """Why the number is not what the connections alone would give."""

    NOTHING = ""
    MIN = "min"
    MAX = "max"
    STABILISATION = "stabilisation"
    """Fewer would do now, but not for long enough."""
    UNKNOWN = "unknown"
    """Fewer might do, but not all counts are known, or clients are on their way back."""
    PAUSED = "paused"


class Recommendation(Struct, frozen=True):
    at: float
    replicas: int


class Scaling(Struct, frozen=True):
    """A change of the number of chat pods."""

    at: float
    before: int
    after: int
    reason: str


class ScalingMemory(Struct, frozen=True):
    """`replicas` is what was last decided; None: nothing yet. To go on after a restart, give what the status says."""

    replicas: int | None = None
    recommendations: tuple[Recommendation, ...] = ()
    last: Scaling | None = None


class Decision(Struct, frozen=True):
    replicas: int
    reason: str
    limited_by: LimitedBy
    memory: ScalingMemory


class Load(Struct, frozen=True):
    """`connections` of the pods that told them, and how many pods did not."""

    connections: int
    unknown: int


def decide(spec: Spec, observed: Observed, memory: ScalingMemory, now: float) -> Decision:
    """How many chat pods there should be now, and why."""
    scaling = spec.chat_pods.autoscaling
    if scaling is None:
        replicas, reason = spec.chat_pods.replicas, "spec.chatPods.replicas says so"
        memory = _remember(memory, (), replicas, reason, now)
        return Decision(replicas, reason, LimitedBy.NOTHING, memory)
    if spec.pause and memory.replicas is not None:
        return Decision(memory.replicas, "the cluster is paused", LimitedBy.PAUSED, memory)
    load, per_pod = load_of(observed), spec.chat_pods.connections_per_pod
    present = _present(observed) if memory.replicas is None else memory.replicas
    recommended = recommend(scaling, per_pod, load, min(max(scaling.min, present), scaling.max))
    # An empty window knows nothing of the time before: the present number stands for it.
    past = memory.recommendations or (Recommendation(now, present),)
    window = _window(past, Recommendation(now, recommended), now - scaling.scale_down_stabilisation_seconds)
    highest = max(window[0].replicas, present if _is_unsure(observed, load, now) else 0)
    replicas = min(max(scaling.min, highest), scaling.max)
    limit = _limit(recommended, replicas, window[0].replicas, scaling)
    reason = _needed(load, scaling, per_pod, recommended) + _because(limit, replicas)
    return Decision(replicas, reason, limit, _remember(memory, window, replicas, reason, now))


def load_of(observed: Observed) -> Load:
    """Of every pod that people may be connected to, going ones as well. Who never was ready holds nobody."""
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone]
    known = [pod.connections for pod in pods if pod.connections is not None]
    return Load(sum(known), sum(pod.connections is None and pod.ever_ready for pod in pods))


def recommend(scaling: Autoscaling, per_pod: int, load: Load, present: int) -> int:
    """Before any bounds. A pod whose count is unknown is taken to be as full as it should be, up to the present
    number: one look in which Redis does not answer is no reason for another pod, whatever the headroom."""
    full = per_pod * scaling.target_utilisation
    known = math.ceil((load.connections + scaling.headroom) / full - ROUNDING)
    return max(known, min(load.unknown + known, present))


def _present(observed: Observed) -> int:
    """The pods that serve people now; not those that wait for a node."""
    return sum(
        pod.kind is PodKind.CHAT and pod.ever_ready and not (pod.gone or pod.stopping or pod.draining)
        for pod in observed.pods
    )


def _is_unsure(observed: Observed, load: Load, now: float) -> bool:
    """Whether the counts may miss somebody, so that they are no reason for fewer pods."""
    disturbed = observed.disturbed_at is not None and now - observed.disturbed_at < DISTURBED_S
    return load.unknown > 0 or observed.registry is None or disturbed


def _window(
    past: tuple[Recommendation, ...], new: Recommendation, begin: float
) -> tuple[Recommendation, ...]:
    """The recommendations since `begin`, highest first: one that is no higher than a later one decides nothing."""
    kept = tuple(one for one in past if one.at > begin and one.replicas > new.replicas)
    return (*kept, new)


def _limit(recommended: int, replicas: int, highest: int, scaling: Autoscaling) -> LimitedBy:
    if replicas < recommended:
        return LimitedBy.MAX
    if replicas == recommended:
        return LimitedBy.NOTHING
    if replicas == scaling.min:
        return LimitedBy.MIN
    return LimitedBy.STABILISATION if highest >= replicas else LimitedBy.UNKNOWN


def _needed(load: Load, scaling: Autoscaling, per_pod: int, recommended: int) -> str:
    silent = f" and {_count(load.unknown, 'pod')} of unknown load" if load.unknown else ""
    room = f" and room for {scaling.headroom}" if scaling.headroom else ""
    return (
        f"{_count(load.connections, 'connection')}{silent}{room} want {_count(recommended, 'pod')} "
        f"at {scaling.target_utilisation:.0%} of {per_pod}"
    )


def _count(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _because(limit: LimitedBy, replicas: int) -> str:
    match limit:
        case LimitedBy.MIN | LimitedBy.MAX:
            return f"; {limit} is {replicas}"
        case LimitedBy.STABILISATION:
            return f"; {replicas} until fewer were enough for scaleDownStabilisationSeconds"
        case LimitedBy.UNKNOWN:
            return f"; {replicas} until all counts are known again"
        case _:
            return ""


def _remember(
    memory: ScalingMemory, window: tuple[Recommendation, ...], replicas: int, reason: str, now: float
) -> ScalingMemory:
    before, last = memory.replicas, memory.last
    if before is not None and before != replicas:
        last = Scaling(now, before, replicas, reason)
    return ScalingMemory(replicas, window, last)
