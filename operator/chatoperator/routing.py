"""The part of the plan about who gets which clients: discovery's policy, registry entries, shedding. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

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
from chatoperator.spec import Spec

SETTLE_S = 3.0
"""After a failure clients come back by themselves; only then the counts mean something."""
FOREIGN_ENTRY_S = 3.0
"""How long an entry may differ from what its pod says of itself."""
SHED_AT_LEAST = 5
"""Fewer clients than this are not worth moving."""
REBALANCE_ROUNDS = 10
"""Shedding ends this many cooldowns after the disturbance: an imbalance that lasts is not from it."""


def plan_policy(revision: str, observed: Observed, actions: Iterable[Action]) -> list[Action]:
    """Serve the new revision from its first ready pod on; never pods that go or are gone.

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
    inside = [pod for pod in pods if pod.name not in out]
    if any(pod.ready and not pod.condemned for pod in inside):
        out |= {pod.name for pod in inside if pod.condemned}
    ready = [pod for pod in pods if pod.ready and pod.name not in out]
    policy = SetPolicy(_serving(revision, registry.serving_revision, ready), frozenset(out))
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
    alive = {pod.name: pod for pod in observed.pods if pod.alive and pod.kind is PodKind.CHAT}
    actions: list[Action] = []
    for entry in observed.registry.entries:
        pod = alive.get(entry.name)
        if pod is None:
            actions.append(RemoveEntry(entry.name, entry.incarnation, "no such pod"))
        elif (
            pod.incarnation not in ("", entry.incarnation)
            and pod.answered_at is not None
            and pod.answered_at > entry.seen_since + FOREIGN_ENTRY_S
        ):
            actions.append(RemoveEntry(entry.name, entry.incarnation, "not this pod's incarnation"))
    return actions


def plan_shedding(
    spec: Spec, revision: str, observed: Observed, actions: Iterable[Action], now: float
) -> list[Action]:
    """After a failure or a scale-up, when all is calm: pods above mean x tolerance shed their excess."""
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT]
    calm = (
        len(pods) == spec.chat_pods.replicas
        and all(pod.alive and pod.ready and not pod.draining and not pod.stopping for pod in pods)
        and all(pod.revision == revision and not pod.condemned for pod in pods)
        and not any(isinstance(action, Drain | Delete | Undrain) for action in actions)
        and observed.registry is not None
    )
    if not calm or observed.disturbed_at is None:
        return []
    cooldown_s = spec.rebalance.cooldown_seconds
    since = now - observed.disturbed_at
    if not SETTLE_S <= since <= REBALANCE_ROUNDS * cooldown_s:
        return []
    if observed.shed_at is not None and now - observed.shed_at < cooldown_s:
        return []
    counts = {pod.name: pod.connections for pod in pods}
    known = {name: count for name, count in counts.items() if count is not None}
    if len(known) < len(counts):
        return []
    mean = sum(known.values()) / len(known)
    return [
        Shed(name, count - math.ceil(mean), f"{count} connections, mean {mean:.1f}")
        for name, count in sorted(known.items())
        if count > mean * spec.rebalance.tolerance and count - math.ceil(mean) >= SHED_AT_LEAST
    ]
