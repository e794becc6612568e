"""Whether a cluster is on its way to what the spec says, and with what. Pure."""

from __future__ import annotations

from chatoperator.autoscale import Scaling
from chatoperator.census import is_leaving, mute_pods
from chatoperator.facts import Facts, Finding, Verdict, chat_pods, takes_clients, verdict
from chatoperator.model import PodKind, PodView
from chatoperator.reasons import Reason
from chatoperator.resource_status import ConditionType, Truth
from chatoperator.revision import revision_of
from chatoperator.rollout import wanted_of
from chatoperator.spec import Spec

SHEDDING_S = 10.0
"""Clients that were asked to move have done so by then, or nearly."""


def progress(spec: Spec, facts: Facts, now: float) -> Verdict:
    """True while something changes."""
    if spec.pause:
        return verdict(Truth.FALSE, Finding(Reason.PAUSED))
    going_on = _going_on(spec, facts, now)
    undone = facts.rollout.undone
    if undone is not None:
        detail = f"revision {undone.revision}: {undone.reason}"
        return verdict(Truth.TRUE if going_on else Truth.FALSE, Finding(Reason.ROLLOUT_UNDONE, detail))
    return verdict(Truth.TRUE, going_on) if going_on else verdict(Truth.FALSE, Finding(Reason.AS_WANTED))


def _going_on(spec: Spec, facts: Facts, now: float) -> Finding | None:
    observed, pods = facts.observed, chat_pods(facts.observed)
    wanted = wanted_of(spec, observed, PodKind.CHAT, now)
    revision, desired = wanted.revision, wanted.replicas
    taking = [pod for pod in pods if takes_clients(pod, now)]
    if not facts.was(ConditionType.AVAILABLE) and not any(pod.ever_ready for pod in pods):
        return Finding(Reason.STARTING, f"{desired} chat pods")
    asked_for = revision_of(spec, PodKind.CHAT)
    if asked_for in observed.held and asked_for != revision:
        return Finding(Reason.SCHEMA_PENDING, f"revision {asked_for} waits for them")
    old = [pod for pod in pods if pod.revision != revision]
    if old:
        counts = f"revision {revision} has {len(pods) - len(old)} chat pods, older ones {len(old)}"
        return Finding(Reason.ROLLING_OUT if wanted.gate.is_open else Reason.ROLLOUT_WAITS, counts)
    return (
        _numbers(facts, pods, len(taking), desired)
        or _replacing(facts, pods, now)
        or _others(facts)
        or _rebalancing(facts, now)
    )


def _numbers(facts: Facts, pods: list[PodView], taking: int, desired: int) -> Finding | None:
    last = facts.decision.memory.last
    counts = f"{taking} of {desired} are ready"
    if taking < desired:
        if last is not None and last.after > last.before and last.after == desired:
            return Finding(Reason.SCALING_UP, f"{counts}; {_why(last)}")
        return Finding(Reason.REPLACING, counts)
    going = sum(pod.draining or pod.stopping for pod in pods)
    if len(pods) > desired and not any(is_leaving(pod) for pod in pods):
        why = f"; {_why(last)}" if last is not None and last.after < last.before else ""
        return Finding(Reason.SCALING_DOWN, f"{going} are going, {desired} stay{why}")
    return None


def _why(scaling: Scaling) -> str:
    return f"from {scaling.before} to {scaling.after}, as {scaling.reason}"


def _replacing(facts: Facts, pods: list[PodView], now: float) -> Finding | None:
    going = {pod.name for pod in pods if is_leaving(pod) or pod.draining or pod.stopping}
    going |= {pod.name for pod in mute_pods(facts.observed, now)}
    return Finding(Reason.REPLACING, ", ".join(sorted(going))) if going else None


def _others(facts: Facts) -> Finding | None:
    for kind, replicas in (("API pods", facts.api), ("workers", facts.worker)):
        if replicas.updated < replicas.desired:
            detail = f"{replicas.updated} of {replicas.desired} {kind} are as the spec says"
            return Finding(Reason.ROLLING_OUT, detail)
        if replicas.ready < replicas.desired:
            return Finding(Reason.REPLACING, f"{replicas.ready} of {replicas.desired} {kind} are ready")
    return None


def _rebalancing(facts: Facts, now: float) -> Finding | None:
    shed_at = facts.observed.shed_at
    return Finding(Reason.REBALANCING) if shed_at is not None and now - shed_at < SHEDDING_S else None
