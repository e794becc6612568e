"""The operator's decision: from what is wanted and what is seen, to what to do. Pure.

It is asked again after every change, so it decides only the next steps, and nothing in it waits. The rules:

- a dead or unresponsive pod is replaced at once; its registry entry goes with it;
- a new revision surges: new pods start first, and an old one is drained only when the ready ones suffice;
- who goes is ranked (`victim_rank`); a drain is taken back while the pod is still there and is wanted again;
- a drained pod is deleted at zero connections or at its deadline;
- pods that die young are started again with back-off.
"""

from __future__ import annotations

import math

from msgspec import Struct

from chatoperator.model import (
    Action,
    Delete,
    Drain,
    Forget,
    Observed,
    PodKind,
    PodView,
    Start,
    Undrain,
)
from chatoperator.revision import replicas_of, revision_of
from chatoperator.routing import plan_entries, plan_policy, plan_shedding
from chatoperator.spec import Spec

UNRESPONSIVE_S = 15.0
"""An alive pod that neither answers nor renews its lease for this long is replaced."""
START_DEADLINE_S = 60.0
"""A pod that is not ready after this counts as failed."""
UNREADY_S = 10.0
"""A pod that was ready and has not been for this long is no longer counted on in a rollout."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STOP_GRACE_S = 5.0
DRAIN_SLACK_S = 2.0
"""A pod closes what is left at its own deadline; it is deleted this much later."""


class Wanted(Struct, frozen=True):
    kind: PodKind
    replicas: int
    revision: str
    surge: int


class Census(Struct, frozen=True):
    """The pods of one kind by what can be expected of them. A pod is in exactly one list."""

    active: list[PodView]
    draining: list[PodView]
    stopping: list[PodView]
    lost: list[PodView]
    dead: list[PodView]


def plan(spec: Spec, observed: Observed, now: float) -> list[Action]:
    """The next steps, in the order in which they are to be applied. Names each pod in at most one of them."""
    if spec.pause:
        return []
    actions: list[Action] = []
    for kind in PodKind:
        wanted = Wanted(kind, replicas_of(spec, kind), revision_of(spec, kind), spec.rollout.surge)
        actions += _plan_kind(wanted, spec.drain.deadline_seconds, observed, now)
    revision = revision_of(spec, PodKind.CHAT)
    # Discovery learns first who goes, so that nobody is sent to a pod that is about to drain.
    routing = [*plan_policy(revision, observed, actions), *plan_entries(observed, now)]
    return routing + actions + plan_shedding(spec, revision, observed, actions, now)


def take_census(kind: PodKind, observed: Observed, now: float) -> Census:
    census = Census([], [], [], [], [])
    for pod in observed.pods:
        if pod.kind is not kind:
            continue
        if not pod.alive:
            census.dead.append(pod)
        elif pod.stopping:
            census.stopping.append(pod)
        elif is_lost(pod, observed, now):
            census.lost.append(pod)
        elif pod.draining:
            census.draining.append(pod)
        else:
            census.active.append(pod)
    return census


def is_lost(pod: PodView, observed: Observed, now: float) -> bool:
    """Alive, but of no use: never became ready in time, or answers nothing and has lost its lease.

    While Redis is away nobody can tell a lease, and a pod may be unready for that reason alone.
    """
    if pod.kind is PodKind.CHAT and observed.registry is None:
        return False
    if not pod.ever_ready:
        return now - pod.started_at > START_DEADLINE_S
    silent = now - (pod.answered_at if pod.answered_at is not None else pod.started_at) > UNRESPONSIVE_S
    if not silent or pod.kind is not PodKind.CHAT or observed.registry is None:
        return silent
    return not any(entry.live and entry.name == pod.name for entry in observed.registry.entries)


def victim_rank(pod: PodView, revision: str) -> tuple[bool, bool, bool, float, float, str]:
    """Who goes first: not ready, already draining, old or condemned, fewest connections, newest, name."""
    return (
        pod.ready,
        not pod.draining,
        pod.revision == revision and not pod.condemned,
        math.inf if pod.connections is None else pod.connections,
        -pod.started_at,
        pod.name,
    )


def backoff_s(count: int) -> float:
    """How long to wait after the `count`-th early death in a row."""
    return 0.0 if count <= 0 else min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(count - 1, 16))


def _plan_kind(wanted: Wanted, deadline_s: float, observed: Observed, now: float) -> list[Action]:
    census = take_census(wanted.kind, observed, now)
    actions: list[Action] = [Forget(pod.name, "its process is gone") for pod in census.dead]
    actions += [Delete(pod.name, "does not answer", 0.0) for pod in census.lost]
    back = _wanted_back(wanted, census, deadline_s, now)
    actions += [Undrain(pod.name, "is wanted again") for pod in back]
    actions += _starts(wanted, census, len(back), observed, now)
    actions += [_send_away(pod, reason) for pod, reason in _victims(wanted, census, now)]
    kept = {pod.name for pod in back}
    draining = [pod for pod in census.draining if pod.name not in kept]
    return actions + _finish_drains(draining, deadline_s, now)


def _is_old(pod: PodView, wanted: Wanted) -> bool:
    return pod.revision != wanted.revision or pod.condemned


def _wanted_back(wanted: Wanted, census: Census, deadline_s: float, now: float) -> list[PodView]:
    """Drains to take back because the desired number rose again. Not those that drain by themselves."""
    missing = wanted.replicas - len(census.active)
    candidates = [
        pod
        for pod in census.draining
        if pod.drain_intent
        and pod.ever_ready
        and not _is_old(pod, wanted)
        and now - (pod.draining_since or now) < deadline_s
    ]
    candidates.sort(key=lambda pod: victim_rank(pod, wanted.revision), reverse=True)
    return candidates[: max(0, missing)]


def _starts(wanted: Wanted, census: Census, back: int, observed: Observed, now: float) -> list[Action]:
    """Pods for what is missing at once; for old ones only as many above the desired number as may surge."""
    failures = observed.failures.get((wanted.kind, wanted.revision))
    if failures is not None and now < failures.last_at + backoff_s(failures.count):
        return []
    active = len(census.active) + back
    missing = max(0, wanted.replicas - active)
    old = [pod for pod in census.active if _is_old(pod, wanted)]
    surging = 0
    if old:
        # Those that go count here: one pod after another, and never more processes than allowed for.
        going = len(census.draining) - back + len(census.stopping)
        room = wanted.replicas + wanted.surge - active - missing - going
        still_old = wanted.replicas - (active - len(old)) - missing
        surging = max(0, min(room, still_old))
    why_new = "replaces a pod that was asked to go" if _all_condemned(old, wanted) else "new revision"
    reasons = ["too few pods"] * missing + [why_new] * surging
    return [Start(wanted.kind, wanted.revision, reason) for reason in reasons]


def _all_condemned(old: list[PodView], wanted: Wanted) -> bool:
    return all(pod.revision == wanted.revision for pod in old)


def _victims(wanted: Wanted, census: Census, now: float) -> list[tuple[PodView, str]]:
    """Who goes now. Pods with clients go only while at least the desired number of ready ones stays."""
    excess = len(census.active) - wanted.replicas
    if excess <= 0:
        return []
    ranked = sorted(census.active, key=lambda pod: victim_rank(pod, wanted.revision))
    old = [pod for pod in ranked if _is_old(pod, wanted)]
    if not old:
        return [(pod, "scaled down") for pod in ranked[:excess]]
    spare = sum(pod.ready for pod in ranked) - wanted.replicas
    victims: list[tuple[PodView, str]] = []
    for pod in old:
        may_go = spare >= pod.ready or _is_useless(pod, now)
        if len(victims) < excess and may_go:
            spare -= pod.ready
            reason = "was asked to go" if pod.revision == wanted.revision else "outgoing revision"
            victims.append((pod, reason))
    # Scaled down in mid-rollout: what is above even the surge goes, whatever its revision.
    chosen = {pod.name for pod, _ in victims}
    rest = [pod for pod in ranked if pod.name not in chosen]
    over = len(rest) - wanted.replicas - wanted.surge
    return victims + [(pod, "scaled down") for pod in rest[: max(0, over)]]


def _is_useless(pod: PodView, now: float) -> bool:
    """Nobody is served by it, and not just for the moment of one slow answer."""
    unready_for_s = 0.0 if pod.unready_since is None else now - pod.unready_since
    return not pod.ready and (not pod.ever_ready or unready_for_s >= UNREADY_S)


def _send_away(pod: PodView, reason: str) -> Action:
    """Chat pods that may have clients drain; everything else stops gracefully by itself."""
    if pod.kind is PodKind.CHAT and pod.ever_ready:
        return Drain(pod.name, reason)
    return Delete(pod.name, reason, STOP_GRACE_S)


def _finish_drains(draining: list[PodView], deadline_s: float, now: float) -> list[Action]:
    actions: list[Action] = []
    for pod in draining:
        since = pod.draining_since if pod.draining_since is not None else now
        if pod.drain_told and pod.connections == 0:
            actions.append(Delete(pod.name, "drained", STOP_GRACE_S))
        elif now - since >= deadline_s + DRAIN_SLACK_S:
            actions.append(Delete(pod.name, "drain deadline", STOP_GRACE_S))
        elif not pod.drain_told:
            actions.append(Drain(pod.name, "has not heard that it drains"))
    return actions
