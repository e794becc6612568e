"""What is wrong with a cluster, the worst first. Pure."""

from __future__ import annotations

from chatoperator.autoscale import LimitedBy
from chatoperator.facts import (
    MESSAGE_MAX_CHARS,
    Facts,
    Finding,
    Verdict,
    chat_pods,
    takes_clients,
    told,
    verdict,
)
from chatoperator.model import PodKind, PodView
from chatoperator.plan import UNREADY_S
from chatoperator.reasons import Reason
from chatoperator.resource_status import Truth
from chatoperator.rollout import finds_no_node, wanted_of
from chatoperator.spec import Spec

STARTING_S = 25.0
"""A pod that is not ready after this is told of, so that it is known within 30 s."""
CRASHES = 2
"""One early death may be chance."""
CRASHED_S = 120.0
"""Longer than the longest back-off: pods that crash again and again are told of all the time."""


def degraded(spec: Spec, facts: Facts, parts: tuple[Verdict, ...], now: float) -> Verdict:
    """`parts`: the store, the registry, and the delivery."""
    found: dict[str, str] = {}
    for problem in facts.problems:
        found.setdefault(problem.reason.value, told(problem))
    for part in parts:
        if part.truth is Truth.FALSE:
            found.setdefault(part.reason, part.message)
    for finding in _of_pods(spec, facts, now):
        found.setdefault(finding.reason.value, told(finding))
    if not found:
        return verdict(Truth.FALSE, Finding(Reason.ALL_WELL))
    return Verdict(Truth.TRUE, next(iter(found)), " ".join(found.values())[:MESSAGE_MAX_CHARS])


def _of_pods(spec: Spec, facts: Facts, now: float) -> list[Finding]:
    observed, pods = facts.observed, chat_pods(facts.observed)
    found = []
    if facts.rollout.undone is not None:
        undone = facts.rollout.undone
        found.append(Finding(Reason.ROLLOUT_UNDONE, f"revision {undone.revision}: {undone.reason}"))
    wanted = wanted_of(spec, observed, PodKind.CHAT, now)
    failures = observed.failures.get((PodKind.CHAT, wanted.revision))
    if failures and failures.count >= CRASHES and now - failures.last_at < CRASHED_S:
        found.append(Finding(Reason.PODS_CRASH, f"{failures.count} chat pods in a row"))
    lost = [pod for pod in observed.pods if pod.node_lost and pod.alive]
    replaced = sum(takes_clients(pod, now) for pod in pods) >= wanted.replicas and all(
        pod.gone for pod in lost
    )
    groups = {
        Reason.NODE_LOST: [] if replaced else lost,
        Reason.PODS_UNSCHEDULABLE: [pod for pod in pods if finds_no_node(pod, now)],
        Reason.PODS_NOT_READY: [pod for pod in pods if _is_late(pod, now)],
    }
    found += [Finding(reason, _names(group)) for reason, group in groups.items() if group]
    if facts.decision.limited_by is LimitedBy.MAX:
        found.append(Finding(Reason.TOO_FEW_FOR_LOAD, facts.decision.reason))
    return found


def _is_late(pod: PodView, now: float) -> bool:
    """It should be ready, and is not."""
    if pod.ready or not pod.scheduled or pod.node_lost or pod.draining or pod.stopping:
        return False
    if not pod.ever_ready:
        return now - pod.started_at >= STARTING_S
    return pod.unready_since is not None and now - pod.unready_since >= UNREADY_S


def _names(pods: list[PodView]) -> str:
    names = sorted(pod.name for pod in pods)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
