"""The operator's decision: from what is wanted and what is seen, to what to do. Pure.

It is asked again after every change, so it decides only the next steps, and nothing in it waits. The rules:

- a dead or unresponsive pod is replaced at once, and so is one whose node is lost; its registry entry goes with it;
- a new revision surges: new pods start first, and an old one is drained only when the ready ones suffice and, where
  that is measured, messages arrive;
- a revision that was given up (`rollout.py`) is treated as the old one, and its pods that never worked go at once;
- a pod that waits for a node is no pod to count on: for its sake no other goes, and while no node takes the new
  revision lost pods are replaced by pods of the last good one;
- a pod that was asked to go and that no node has a successor for goes all the same, if its clients have seats with
  others;
- who goes is ranked (`census.py`); a drain is taken back while the pod is still there and is wanted again;
- a pod that does not deliver while others do is drained and replaced, one at a time;
- a drained pod is deleted at zero connections or at its deadline;
- pods that die young are started again with back-off.
"""

from __future__ import annotations

from chatoperator.census import Census, is_leaving, rank_victims, take_census
from chatoperator.model import (
    Action,
    Delete,
    Drain,
    Forget,
    Observed,
    PodKind,
    PodView,
    RemoveEntry,
    Start,
    Undrain,
)
from chatoperator.rollout import UNSCHEDULED_S, Wanted, finds_no_node, wanted_of
from chatoperator.routing import plan_entries, plan_policy, plan_shedding
from chatoperator.spec import Spec

UNREADY_S = 10.0
"""A pod that was ready and has not been for this long is no longer counted on in a rollout."""
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STOP_GRACE_S = 5.0
DRAIN_SLACK_S = 2.0
"""A pod closes what is left at its own deadline; it is deleted this much later."""


def plan(
    spec: Spec, observed: Observed, now: float, kinds: tuple[PodKind, ...] = tuple(PodKind)
) -> list[Action]:
    """The next steps for pods of these kinds, in the order in which they are to be applied. Names each pod in at most
    one of them, besides its registry entry."""
    if spec.pause:
        return []
    wanted = {kind: wanted_of(spec, observed, kind, now) for kind in kinds}
    actions: list[Action] = []
    for kind in kinds:
        actions += _plan_kind(wanted[kind], spec, observed, now)
    if PodKind.CHAT not in wanted:
        return actions
    chat = wanted[PodKind.CHAT]
    # Discovery learns first who goes, so that nobody is sent to a pod that is about to drain.
    routing = [*plan_policy(chat, observed, actions, now), *plan_entries(observed, now)]
    return routing + actions + plan_shedding(chat, spec.rebalance, observed, actions, now)


def backoff_s(count: int) -> float:
    """How long to wait after the `count`-th early death in a row."""
    return 0.0 if count <= 0 else min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(count - 1, 16))


def _plan_kind(wanted: Wanted, spec: Spec, observed: Observed, now: float) -> list[Action]:
    census = take_census(wanted.kind, spec, observed, now, wanted.revision)
    deadline_s = spec.drain.deadline_seconds
    actions: list[Action] = [Forget(pod.name, "its process is gone") for pod in census.dead]
    actions += _drop_lost(census, observed)
    back = _wanted_back(wanted, census, deadline_s, now)
    actions += [Undrain(pod.name, "is wanted again") for pod in back]
    actions += _starts(wanted, census, len(back), observed, now)
    actions += [_send_away(pod, "does not deliver") for pod in census.mute]
    victims = _victims(wanted, census, now)
    if not victims:
        victims = _without_successor(spec, census, now)
    actions += [_send_away(pod, reason) for pod, reason in victims]
    kept = {pod.name for pod in back}
    draining = [pod for pod in census.draining if pod.name not in kept]
    return actions + _finish_drains(draining, deadline_s, now)


def _drop_lost(census: Census, observed: Observed) -> list[Action]:
    """Nobody can end a pod on a lost node, and it may come back: it is not to register again."""
    actions: list[Action] = []
    for pod, why in census.lost:
        if pod.node_lost and observed.registry is not None:
            actions.append(RemoveEntry(pod.name, pod.incarnation, why, for_good=True))
        actions.append(Delete(pod.name, why, 0.0))
    return actions


def _is_old(pod: PodView, wanted: Wanted) -> bool:
    return pod.revision != wanted.revision or is_leaving(pod)


def _wanted_back(wanted: Wanted, census: Census, deadline_s: float, now: float) -> list[PodView]:
    """Drains to take back because the desired number rose again, or the revision is wanted again. Not those that
    drain by themselves."""
    missing = wanted.replicas - sum(not _is_old(pod, wanted) for pod in census.active)
    candidates = [
        pod
        for pod in census.draining
        if pod.drain_intent
        and pod.ever_ready
        and not _is_old(pod, wanted)
        and pod.delivers is not False
        and now - (pod.draining_since or now) < deadline_s
    ]
    return rank_victims(candidates, wanted.revision)[::-1][: max(0, missing)]


def _starts(wanted: Wanted, census: Census, back: int, observed: Observed, now: float) -> list[Action]:
    """Pods for what is missing at once; for old ones only as many above the desired number as may surge."""
    active = len(census.active) + back
    missing = max(0, wanted.replicas - active + len(_waiting(wanted, census, now)))
    old = [pod for pod in census.active if _is_old(pod, wanted)]
    surging = 0
    if old:
        # Those that go count here: one pod after another, and never more processes than allowed for.
        going = len(census.draining) - back + len(census.stopping)
        room = wanted.replicas + wanted.surge - active - missing - going
        still_old = wanted.replicas - (active - len(old)) - missing
        surging = max(0, min(room, still_old))
    why_new = "replaces a pod that was asked to go" if _all_condemned(old, wanted) else "new revision"
    wishes = [(wanted.fallback or wanted.revision, "too few pods")] * missing
    wishes += [(wanted.revision, why_new)] * surging
    backing_off = {revision for revision, _ in wishes if _backs_off(wanted.kind, revision, observed, now)}
    return [
        Start(wanted.kind, revision, reason) for revision, reason in wishes if revision not in backing_off
    ]


def _waiting(wanted: Wanted, census: Census, now: float) -> list[PodView]:
    """Pods of the wanted revision that no node takes, where there is another to fall back on."""
    own = [pod for pod in census.active if wanted.fallback and pod.revision == wanted.revision]
    return [pod for pod in own if finds_no_node(pod, now)]


def _backs_off(kind: PodKind, revision: str, observed: Observed, now: float) -> bool:
    failures = observed.failures.get((kind, revision))
    return failures is not None and now < failures.last_at + backoff_s(failures.count)


def _all_condemned(old: list[PodView], wanted: Wanted) -> bool:
    return all(pod.revision == wanted.revision for pod in old)


def _victims(wanted: Wanted, census: Census, now: float) -> list[tuple[PodView, str]]:
    """Who goes now. Pods with clients go only while at least the desired number of ready ones stays."""
    excess = len(census.active) - wanted.replicas
    if excess <= 0:
        return []
    ranked = rank_victims(census.active, wanted.revision)
    old = [pod for pod in ranked if _is_old(pod, wanted)]
    if not old:
        return [(pod, "scaled down") for pod in ranked[:excess]]
    rolling = any(pod.revision != wanted.revision for pod in old)
    proof = rolling and wanted.gate.needs_proof
    # A new pod that nothing was delivered through yet takes nobody's place.
    counted = [pod for pod in ranked if _is_old(pod, wanted) or not proof or pod.delivers is True]
    spare = sum(pod.ready for pod in counted) - wanted.replicas
    victims: list[tuple[PodView, str]] = []
    for pod in old:
        is_held = pod.revision != wanted.revision and not wanted.gate.is_open
        starts_instead = pod.revision == wanted.fallback and not pod.ever_ready
        may_go = (spare >= pod.ready and not is_held) or (_is_useless(pod, now) and not starts_instead)
        if len(victims) < excess and may_go:
            spare -= pod.ready
            victims.append((pod, _why_old(pod, wanted)))
    # Scaled down in mid-rollout: what is above even the surge goes, whatever its revision.
    chosen = {pod.name for pod, _ in victims}
    idle = {pod.name for pod in _waiting(wanted, census, now)}
    rest = sorted((pod for pod in ranked if pod.name not in chosen), key=lambda pod: pod.name not in idle)
    over = len(rest) - wanted.replicas - wanted.surge
    return victims + [(pod, "scaled down") for pod in rest[: max(0, over)]]


def _without_successor(spec: Spec, census: Census, now: float) -> list[tuple[PodView, str]]:
    """A pod that was asked to go, when one in its place has waited for a node for as long as a drain may take: its
    clients go to those that stay, if these have seats for all of them. One at a time, so that counts are true."""
    patience_s = max(UNSCHEDULED_S, spec.drain.deadline_seconds)
    waits = any(finds_no_node(pod, now, patience_s) for pod in census.active)
    staying = [pod for pod in census.active if pod.ready and not is_leaving(pod)]
    if not waits or not staying or census.draining or census.stopping:
        return []
    most = spec.chat_pods.connections_per_pod
    seats = sum(max(0, most - pod.connections) for pod in staying if pod.connections is not None)
    asked = [pod for pod in census.active if pod.condemned]
    fitting = [pod for pod in asked if pod.connections is not None and pod.connections <= seats]
    return [(pod, "was asked to go, and no node has room for another") for pod in fitting[:1]]


def _why_old(pod: PodView, wanted: Wanted) -> str:
    if pod.revision != wanted.revision:
        return "outgoing revision"
    return "was asked to go" if pod.condemned else "its node is lost"


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
