"""Why a chat pod is given clients or is not, and when it would go: by the same rules as the operator's. Pure."""

from __future__ import annotations

import time
from collections import Counter

import msgspec
from msgspec import Struct

from chatclient.cli.kubeapi import Object
from chatclient.cli.kubelook import Look, PodLook, Told
from chatoperator.census import counted, is_leaving, rank_victims
from chatoperator.kube.podview import PodMemory, Surroundings, view_of
from chatoperator.model import Observed, PodView

NO_REGISTRY = Observed()
"""Who holds a lease cannot be seen from outside."""


class Explained(Struct, frozen=True, kw_only=True):
    """`place`: 1 goes first. `order`: all chat pods in that order. `because`: why it stands where it does."""

    pod: PodLook
    seats: bool
    seats_because: str
    place: int | None
    order: list[str]
    because: list[str]
    told: list[Told]


def explain(look: Look, name: str, now: float | None = None) -> Explained:
    """Raises Fail for a pod that is not there."""
    pod = look.pod(name)
    views = _views(look, time.time() if now is None else now)
    revision = _current(look)
    ranked = rank_victims([counted(view, NO_REGISTRY) for view in views.values()], revision)
    order = [view.name for view in ranked]
    seats, why = _seats(look, views.get(name), revision)
    return Explained(
        pod=pod,
        seats=seats,
        seats_because=why,
        place=order.index(name) + 1 if name in order else None,
        order=order,
        because=_because(ranked, name, revision),
        told=[one for one in look.told if name in one.text.split() or f"{name}:" in one.text.split()],
    )


def _views(look: Look, now: float) -> dict[str, PodView]:
    """As the operator sees them; the registry's part is what the pods say themselves."""
    found: dict[str, PodView] = {}
    for pod in look.chat_pods:
        one, node = look.raw[pod.name]
        around = Surroundings(None, False, _node(node), node is not None, pod.delivers)
        view = view_of(one, PodMemory(), around, now)
        if not view.alive:
            continue
        told = pod.numbers is not None and pod.numbers.state == "draining"
        count = None if pod.numbers is None else pod.numbers.connections
        found[pod.name] = msgspec.structs.replace(view, connections=count, drain_told=told)
    return found


def _node(node: Object | None) -> Object | None:
    """As the operator keeps it: of its conditions only whether it is ready."""
    if node is None:
        return None
    told = [one for one in node["status"].get("conditions") or [] if one["type"] == "Ready"]
    return {"metadata": node["metadata"], "spec": node.get("spec") or {}, "status": {"conditions": told}}


def _current(look: Look) -> str:
    """The revision that pods are to have now: that of the spec, unless it was given up."""
    revisions = look.status.revisions
    wanted = next((one.revision for one in revisions if one.current and not one.failed), "")
    left = max((one for one in revisions if not one.failed), key=lambda one: one.ready, default=None)
    return wanted or (left.revision if left is not None else "")


def _seats(look: Look, view: PodView | None, revision: str) -> tuple[bool, str]:
    """Whether discovery gives clients to it, as far as that can be seen from outside."""
    if view is None:
        return False, "it has ended"
    if view.stopping:
        return False, "it is being deleted"
    if view.draining:
        return False, "it drains"
    if not view.ready:
        return False, "it is not ready"
    others = [pod for pod in look.chat_pods if pod.state == "ready" and pod.name != view.name]
    if is_leaving(view) and others:
        return False, "it is to go as soon as another is there for it"
    if view.delivers is False and others:
        return False, "messages do not arrive through it"
    if view.revision != revision and any(pod.revision == revision for pod in others):
        return False, f"it is of revision {view.revision}, and pods of {revision} are ready"
    return True, "it is ready, of the revision that is served, and stays"


def _because(ranked: list[PodView], name: str, revision: str) -> list[str]:
    """What sets it off from the pod that goes right before it, and from the one right after."""
    order = [view.name for view in ranked]
    if name not in order:
        return []
    place = order.index(name)
    said = []
    if place > 0:
        said.append(f"{order[place - 1]} goes before: {_difference(ranked[place - 1 :], revision)}")
    if place + 1 < len(ranked):
        said.append(f"before {order[place + 1]}: {_difference(ranked[place:], revision)}")
    return said


def _difference(left: list[PodView], revision: str) -> str:
    """Why the first of those that are left goes before the second: the first rule by which they differ."""
    first, second = left[:2]
    if first.ready != second.ready:
        return "messages do not arrive through it" if first.delivers is False else "it is not ready"
    if first.draining != second.draining:
        return "it drains already"
    if _is_old(first, revision) != _is_old(second, revision):
        return "it is to go anyway" if is_leaving(first) else "it is of an old revision"
    if first.connections != second.connections:
        if second.connections is None:
            return "the other does not tell its connections, and counts as busy"
        return f"fewer connections ({first.connections} and {second.connections})"
    zones = Counter(view.zone for view in left)
    if zones[first.zone] != zones[second.zone]:
        return (
            f"its zone {first.zone or '(none)'} has more pods ({zones[first.zone]} and {zones[second.zone]})"
        )
    if first.started_at != second.started_at:
        return "it is younger"
    return "by name: nothing else sets them off"


def _is_old(view: PodView, revision: str) -> bool:
    return view.revision != revision or is_leaving(view)
