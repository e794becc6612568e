"""The part of the plan about who gets which clients: discovery's policy, registry entries, shedding. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from chatoperator.census import is_leaving, mute_pods
from chatoperator.model import (
    Action,
    Delete,
    Drain,
    Observed,
    PodKind,
    PodView,
    RemoveEntry,
    SetPolicy,
    Shed,
    Undrain,
)
from chatoperator.rollout import Wanted
from chatoperator.spec import Rebalance

SETTLE_S = 3.0
"""After a failure clients come back by themselves; only then the counts mean something."""
FOREIGN_ENTRY_S = 3.0
"""How long an entry may differ from what its pod says of itself."""
UNKNOWN_ENTRY_S = 1.0
"""A pod may register before the operator has seen it."""
ASKED_S = 120.0
"""A round of rebalancing that could not be done by then is not done any more: nobody would expect it."""
ROUND_S = 12.0
"""A round of shedding takes no longer: a pod closes who has not gone after 10 s, and counts are a second old. However
short the cooldown, the next one begins after it."""
SHED_AT_LEAST = 5
"""Fewer clients than this are not worth moving."""
REBALANCE_ROUNDS = 10
"""Shedding ends this many cooldowns after the disturbance: an imbalance that lasts is not from it."""


def plan_policy(wanted: Wanted, observed: Observed, actions: Iterable[Action], now: float) -> list[Action]:
    """Serve the new revision from its first ready pod on; never pods that go or are gone, or do not deliver.

    `actions` are those decided in this plan: who is told to drain now is excluded now.
    """
    registry = observed.registry
    if registry is None:
        return []
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT]
    going = {action.pod for action in actions if isinstance(action, Drain | Delete)}
    staying = {action.pod for action in actions if isinstance(action, Undrain)}
    out = {
        pod.name
        for pod in pods
        if (not pod.alive or pod.stopping or pod.draining or pod.name in going) and pod.name not in staying
    }
    mute = {pod.name for pod in mute_pods(observed, now)}
    inside = [pod for pod in pods if pod.name not in out]
    doubtful = {pod.name for pod in inside if is_leaving(pod) or pod.name in mute}
    if any(pod.ready and pod.name not in doubtful for pod in inside):
        out |= doubtful
    ready = [pod for pod in pods if pod.ready and pod.name not in out]
    proof = wanted.gate.needs_proof
    proven = [pod for pod in ready if pod.revision != wanted.revision or not proof or pod.delivers is True]
    policy = SetPolicy(_serving(wanted.revision, registry.serving_revision, proven or ready), frozenset(out))
    unchanged = (policy.serving_revision, policy.excluded) == (registry.serving_revision, registry.excluded)
    return [] if unchanged else [policy]


def _serving(wanted: str, present: str, ready: list[PodView]) -> str:
    revisions = Counter(pod.revision for pod in ready)
    if wanted in revisions:
        return wanted
    if not revisions:
        return present
    return present if present in revisions else max(revisions, key=lambda name: (revisions[name], name))


def plan_entries(observed: Observed, now: float) -> list[Action]:
    """Removes what no living pod of ours has written: entries of the dead, of zombies, and forged ones.

    A pod that wakes from a freeze registers as a new run before it is asked who it is: a run that is not the
    pod's is removed only when the pod has told so since, or the pod itself would be refused from then on.
    """
    if observed.registry is None:
        return []
    pods = {pod.name: pod for pod in observed.pods if pod.kind is PodKind.CHAT}
    actions: list[Action] = []
    for entry in observed.registry.entries:
        pod = pods.get(entry.name)
        unknown = pod is None and now - entry.seen_since >= UNKNOWN_ENTRY_S
        if unknown or (pod is not None and pod.gone):
            actions.append(RemoveEntry(entry.name, entry.incarnation, "no such pod", for_good=True))
        elif (
            pod is not None
            and pod.incarnation
            and entry.incarnation not in ("", pod.incarnation)
            and pod.told_at is not None
            and pod.told_at > entry.seen_since + FOREIGN_ENTRY_S
        ):
            actions.append(RemoveEntry(entry.name, entry.incarnation, "not this pod's incarnation"))
    return actions


def plan_shedding(
    wanted: Wanted, rebalance: Rebalance, observed: Observed, actions: Iterable[Action], now: float
) -> list[Action]:
    """After a failure or a scale-up, when all is calm: pods above mean x tolerance shed their excess. When a person
    asks for it: at once, and whatever is above the mean."""
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone]
    if any(isinstance(action, Drain | Delete | Undrain) for action in actions):
        return []
    if observed.registry is None or not _is_calm(wanted, pods):
        return []
    asked = _is_asked_for(observed, now)
    if not asked and not _is_due(rebalance, observed, now):
        return []
    known = {pod.name: pod.connections for pod in pods if pod.connections is not None}
    if len(known) < len(pods):
        return []
    mean = sum(known.values()) / len(known)
    tolerance = 1.0 if asked else rebalance.tolerance
    return [
        Shed(name, count - math.ceil(mean), f"{count} connections, mean {mean:.1f}")
        for name, count in sorted(known.items())
        if count > mean * tolerance and count - math.ceil(mean) >= SHED_AT_LEAST
    ]


def _is_calm(wanted: Wanted, pods: list[PodView]) -> bool:
    """All pods that are wanted are there, well, and stay."""
    return len(pods) == wanted.replicas and all(
        pod.ready
        and pod.revision == wanted.revision
        and not (pod.draining or pod.stopping or is_leaving(pod))
        and pod.delivers is not False
        for pod in pods
    )


def _is_due(rebalance: Rebalance, observed: Observed, now: float) -> bool:
    """Something came or went a short while ago, and the last round has had its time."""
    if observed.disturbed_at is None:
        return False
    cooldown_s = max(rebalance.cooldown_seconds, ROUND_S)
    rested = observed.shed_at is None or now - observed.shed_at >= cooldown_s
    return rested and SETTLE_S <= now - observed.disturbed_at <= REBALANCE_ROUNDS * cooldown_s


def _is_asked_for(observed: Observed, now: float) -> bool:
    asked_at, shed_at = observed.rebalance_asked_at, observed.shed_at
    if asked_at is None or (shed_at is not None and shed_at >= asked_at):
        return False
    return now - asked_at <= ASKED_S
