"""What can be expected of each pod, and who would go first. Pure."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from itertools import groupby

from msgspec import Struct, structs

from chatoperator.model import EntryView, Observed, PodKind, PodView
from chatoperator.rollout import missed_deadline
from chatoperator.spec import Spec

UNRESPONSIVE_S = 15.0
"""An alive pod that neither answers nor renews its lease for this long is replaced."""
UNDELIVERED_S = 10.0
"""A pod that does not deliver for this long, while others do, is replaced."""


class Census(Struct, frozen=True):
    """The pods of one kind by what can be expected of them. A pod is in one list, or in none if nothing can. In them
    `ready` is whether it serves people: besides being ready it holds its lease, and nobody says that it does not
    deliver."""

    active: list[PodView]
    draining: list[PodView]
    stopping: list[PodView]
    mute: list[PodView]
    """It does not deliver, and is to go: at most one."""
    lost: list[tuple[PodView, str]]
    """Of no use any more, and why."""
    dead: list[PodView]


def take_census(kind: PodKind, spec: Spec, observed: Observed, now: float, wanted: str) -> Census:
    """`wanted` is the revision that pods are to have."""
    census = Census([], [], [], [], [], [])
    mute = next_mute(observed, now) if kind is PodKind.CHAT else None
    for each in observed.pods:
        if each.kind is not kind:
            continue
        pod = counted(each, observed)
        if not pod.alive:
            census.dead.append(pod)
        elif pod.gone:
            continue  # its end was asked for, and nobody can tell when it comes
        elif why := why_lost(each, spec, observed, now, wanted):
            census.lost.append((pod, why))
        elif pod.stopping:
            census.stopping.append(pod)
        elif pod.draining:
            census.draining.append(pod)
        elif each == mute:
            census.mute.append(pod)
        else:
            census.active.append(pod)
    return census


def counted(pod: PodView, observed: Observed) -> PodView:
    """The pod as it counts: `ready` if it serves people."""
    holds = observed.registry is None or has_lease(pod, observed)
    serves = pod.kind is not PodKind.CHAT or (pod.delivers is not False and holds)
    return pod if serves else structs.replace(pod, ready=False)


def why_lost(pod: PodView, spec: Spec, observed: Observed, now: float, wanted: str) -> str:
    """Why nobody can use an alive pod any more; "" if somebody can."""
    if pod.node_lost and not has_lease(pod, observed) and not _is_told_by_redis_alone(pod, observed):
        return "its node is lost"
    if pod.stopping:
        return ""
    if pod.revision in observed.undone and pod.revision != wanted and not pod.ever_ready:
        return "its revision was given up"
    return "does not answer" if is_lost(pod, spec, observed, now) else ""


def is_lost(pod: PodView, spec: Spec, observed: Observed, now: float) -> bool:
    """Alive, but of no use: never became ready in time, or answers nothing and has lost its lease.

    While Redis is away nobody can tell a lease, and a pod may be unready for that reason alone.
    """
    if _is_told_by_redis_alone(pod, observed):
        return False
    if not pod.ever_ready:
        return missed_deadline(spec, pod, observed, now)
    return not pod.ready and is_silent(pod, observed, now)


def _is_told_by_redis_alone(pod: PodView, observed: Observed) -> bool:
    """Redis is away, which alone could tell whether the pod serves people."""
    return pod.kind is PodKind.CHAT and observed.registry is None


def is_silent(pod: PodView, observed: Observed, now: float) -> bool:
    """Nothing was heard of it for long, neither an answer nor a lease. When Redis is back after it was away, pods
    get the time to write theirs again."""
    heard_at = pod.answered_at if pod.answered_at is not None else pod.started_at
    if pod.kind is PodKind.CHAT and observed.registry_since is not None:
        heard_at = max(heard_at, observed.registry_since)
    silent = now - heard_at > UNRESPONSIVE_S
    return silent and not (pod.kind is PodKind.CHAT and has_lease(pod, observed))


def has_lease(pod: PodView, observed: Observed) -> bool:
    """Whether it is known to hold its lease: an entry under its name may be forged."""
    entries = observed.registry.entries if observed.registry is not None else ()
    return any(entry.live and is_own(entry, pod) for entry in entries)


def is_own(entry: EntryView, pod: PodView) -> bool:
    """As far as is known: who has not been asked yet may be any run of its name."""
    return entry.name == pod.name and pod.incarnation in ("", entry.incarnation)


def is_leaving(pod: PodView) -> bool:
    """It is to be replaced first, whatever its revision: somebody asked for it, or it lives on a lost node."""
    return pod.condemned or pod.node_lost


def mute_pods(observed: Observed, now: float) -> list[PodView]:
    """Chat pods that do not deliver while others do, whoever fails longest first: the prober says so; or they are
    well by themselves, and cannot be by Redis, as they hold no lease. None while nothing is known of others."""
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone and not pod.stopping]
    good = [pod for pod in pods if pod.ready and not pod.draining and not is_leaving(pod)]
    if observed.registry is None:
        return []
    others_deliver = any(pod.delivers for pod in good)
    others_hold = any(has_lease(pod, observed) for pod in good)
    mute = []
    for pod in pods:
        fails_for_s = now - pod.undelivered_since if pod.undelivered_since is not None else 0.0
        if others_deliver and pod.delivers is False and fails_for_s >= UNDELIVERED_S:
            mute.append((-fails_for_s, pod.name, pod))
        elif others_hold and pod.ready and is_silent(pod, observed, now):
            mute.append((0.0, pod.name, pod))
    return [pod for _, _, pod in sorted(mute, key=lambda row: row[:2])]


def next_mute(observed: Observed, now: float) -> PodView | None:
    """The pod that is to go because it does not deliver. One at a time, as the prober may be wrong; and while any
    pod drains none, as that may be such a one, of which nobody knows any more whether it delivers."""
    pods = [pod for pod in observed.pods if pod.kind is PodKind.CHAT and not pod.gone]
    if any(pod.drain_intent or (pod.stopping and pod.delivers is False) for pod in pods):
        return None
    return next((pod for pod in mute_pods(observed, now) if pod.ever_ready and not pod.draining), None)


def rank_victims(pods: Iterable[PodView], revision: str) -> list[PodView]:
    """Who goes first: not ready, already draining, old or leaving, fewest connections, of the zone
    with the most pods, newest, name. Zones are counted anew after each."""
    youngest_first = sorted(pods, key=lambda pod: (-pod.started_at, pod.name))
    left = Counter(pod.zone for pod in youngest_first)
    ranked: list[PodView] = []
    by_rank = sorted(youngest_first, key=lambda pod: _rank(pod, revision))
    for _, equals in groupby(by_rank, key=lambda pod: _rank(pod, revision)):
        zones: dict[str, deque[PodView]] = {}
        for pod in equals:
            zones.setdefault(pod.zone, deque()).append(pod)
        while zones:
            zone = min(zones, key=lambda name: (-left[name], -zones[name][0].started_at, zones[name][0].name))
            ranked.append(zones[zone].popleft())
            left[zone] -= 1
            if not zones[zone]:
                del zones[zone]
    return ranked


def _rank(pod: PodView, revision: str) -> tuple[bool, bool, bool, float]:
    return (
        pod.ready,
        not pod.draining,
        pod.revision == revision and not is_leaving(pod),
        math.inf if pod.connections is None else pod.connections,
    )
