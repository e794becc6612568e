"""What is so with a cluster, and why: the conditions of its status, and its state in one word. Pure.

Two things keep them calm. What is bad has to be so for a few seconds before a condition turns, as one slow answer is
no news. And a condition's time changes only with its status.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import structs

from chatoperator.degraded import degraded
from chatoperator.facts import Facts, Finding, Verdict, chat_pods, takes_clients, told, verdict
from chatoperator.model import PodKind
from chatoperator.progress import progress
from chatoperator.reasons import Reason
from chatoperator.resource_status import Condition, ConditionType, Phase, Status, Truth
from chatoperator.rollout import wanted_replicas
from chatoperator.spec import ChatCluster, Spec

HOLD_S = 5.0
"""What was well, and has not been for less than this, still counts as well."""
PROBE_SILENT_S = 30.0
"""The same for a prober that does not answer: it may be restarting."""
STARTUP_S = 60.0
"""What a cluster that never was available lacks for less than this may be on its way: Redis, the store, a Secret."""
THERE_S = 30.0
"""A pod that has taken clients for this long makes the cluster available, even if others never come."""

_SECRETS = frozenset({Reason.SECRET_MISSING, Reason.SECRET_INVALID})


def conditions(cluster: ChatCluster, facts: Facts, now: float) -> list[Condition]:
    """All of them, in the order of `ConditionType`. `now` is Unix time in seconds."""
    spec = cluster.spec
    storage = _held(facts, ConditionType.STORAGE_READY, _storage(spec, facts), now)
    registry = _held(facts, ConditionType.REGISTRY_READY, _registry(spec, facts), now)
    delivery = _held(facts, ConditionType.DELIVERY_HEALTHY, _delivery(facts), now)
    paused = Finding(Reason.PAUSED if spec.pause else Reason.NOT_PAUSED)
    found = {
        ConditionType.AVAILABLE: _available(spec, facts, now),
        ConditionType.PROGRESSING: progress(spec, facts, now),
        ConditionType.DEGRADED: degraded(spec, facts, (storage, registry, delivery), now),
        ConditionType.STORAGE_READY: storage,
        ConditionType.REGISTRY_READY: registry,
        ConditionType.DELIVERY_HEALTHY: delivery,
        ConditionType.PAUSED: verdict(Truth.TRUE if spec.pause else Truth.FALSE, paused),
    }
    return [_written(facts, kind, found[kind], now) for kind in ConditionType]


def blind(before: Status, why: Finding, generation: int, now: float) -> Status:
    """As it was told last, with the one thing that is known while the operator does not see all: why it does not."""
    last = {condition.type: condition for condition in before.conditions}
    was = last.get(ConditionType.DEGRADED)
    kept = was.last_transition_time if was is not None and was.status is Truth.TRUE else rfc3339(now)
    last[ConditionType.DEGRADED] = Condition(
        type=ConditionType.DEGRADED,
        status=Truth.TRUE,
        reason=why.reason,
        message=told(why),
        observed_generation=generation,
        last_transition_time=kept,
    )
    available = last.get(ConditionType.AVAILABLE)
    serves = available is not None and available.status is Truth.TRUE
    found = [last[kind] for kind in ConditionType if kind in last]
    return structs.replace(before, conditions=found, phase=Phase.DEGRADED if serves else Phase.FAILED)


def phase_of(cluster: ChatCluster, facts: Facts, found: list[Condition], now: float) -> Phase:
    """The state in one word, of conditions as `conditions` gives them. `now` is Unix time in seconds."""
    true = {condition.type for condition in found if condition.status is Truth.TRUE}
    pods = chat_pods(facts.observed)
    if cluster.spec.pause:
        return Phase.PAUSED
    if ConditionType.DEGRADED in true:
        started = ConditionType.AVAILABLE in true or any(pod.ever_ready for pod in pods)
        if started:
            return Phase.DEGRADED
        if now - facts.created_at >= STARTUP_S:
            return Phase.FAILED
    if ConditionType.AVAILABLE not in true:
        return Phase.STARTING if pods else Phase.PENDING
    return Phase.PROGRESSING if ConditionType.PROGRESSING in true else Phase.RUNNING


def rfc3339(at: float) -> str:
    """Unix seconds as the status tells them."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _written(facts: Facts, kind: ConditionType, found: Verdict, now: float) -> Condition:
    last = facts.last(kind)
    unchanged = last is not None and last.status is found.truth
    return Condition(
        type=kind,
        status=found.truth,
        reason=found.reason,
        message=found.message,
        observed_generation=facts.generation,
        last_transition_time=last.last_transition_time if last is not None and unchanged else rfc3339(now),
    )


def _held(facts: Facts, kind: ConditionType, found: Verdict, now: float) -> Verdict:
    """As it was, while what is bad is as new as one slow look."""
    last = facts.last(kind)
    if last is None or last.status is not Truth.TRUE or found.truth is Truth.TRUE or found.since is None:
        return found
    hold_s = PROBE_SILENT_S if found.reason == Reason.PROBE_SILENT else HOLD_S
    return Verdict(last.status, last.reason, last.message) if now - found.since < hold_s else found


def _storage(spec: Spec, facts: Facts) -> Verdict:
    found = facts.storage
    match found.reason:
        case Reason.NOT_LOOKED_AT:
            return verdict(Truth.UNKNOWN, found)
        case Reason.SCHEMA_PENDING:  # tables that are renewed can be used meanwhile
            return verdict(Truth.TRUE if facts.was(ConditionType.STORAGE_READY) else Truth.FALSE, found)
        case Reason.SCHEMA_READY | Reason.DEVELOPMENT_STORE:
            own = [store for store in (spec.mongodb, spec.postgresql) if store is not None]
            develops = any(store.development for store in own)
            return verdict(Truth.TRUE, Finding(Reason.DEVELOPMENT_STORE) if develops else found)
        case _:
            return verdict(Truth.FALSE, found)


def _registry(spec: Spec, facts: Facts) -> Verdict:
    if facts.registry is not None and facts.registry.reason in _SECRETS:
        # Whoever is connected stays so; a pod that starts now would not be.
        return verdict(Truth.FALSE, facts.registry)
    if facts.observed.registry is not None:
        return verdict(
            Truth.TRUE,
            Finding(Reason.DEVELOPMENT_REDIS if spec.redis.development else Reason.REGISTRY_REACHABLE),
        )
    if facts.registry is not None:
        return verdict(Truth.FALSE, facts.registry)
    return verdict(Truth.FALSE, Finding(Reason.REGISTRY_UNREACHABLE, since=facts.observed.registry_since))


def _delivery(facts: Facts) -> Verdict:
    delivery = facts.observed.delivery
    if delivery is None:
        return verdict(Truth.UNKNOWN, Finding(Reason.NOT_MEASURED))
    match delivery.healthy:
        case True:
            return verdict(Truth.TRUE, Finding(Reason.DELIVERING))
        case False:
            return verdict(Truth.FALSE, Finding(Reason.NOT_DELIVERING, delivery.message, delivery.since))
        case None:
            reason = Reason.PROBE_SILENT if delivery.checked_at is not None else Reason.NOT_MEASURED
            return verdict(Truth.UNKNOWN, Finding(reason, delivery.message, delivery.since))


def _available(spec: Spec, facts: Facts, now: float) -> Verdict:
    """It becomes so when all pods take clients, or some have for a while; it ends when none does."""
    wanted = wanted_replicas(spec, facts.observed, PodKind.CHAT)
    taking = [pod for pod in facts.observed.pods if pod.kind is PodKind.CHAT and takes_clients(pod, now)]
    counts = f"{len(taking)} of {wanted} chat pods and {facts.api.ready} of {facts.api.desired} API pods"
    if not taking or not facts.api.ready:
        return verdict(Truth.FALSE, Finding(Reason.NO_READY_PODS, counts))
    if len(taking) >= wanted and facts.api.ready >= facts.api.desired:
        return verdict(Truth.TRUE, Finding(Reason.ENOUGH_READY_PODS))
    is_there = facts.was(ConditionType.AVAILABLE) or now - min(pod.started_at for pod in taking) >= THERE_S
    return verdict(Truth.TRUE if is_there else Truth.FALSE, Finding(Reason.TOO_FEW_READY_PODS, counts))
