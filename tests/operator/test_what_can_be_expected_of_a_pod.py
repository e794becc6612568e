"""Which pods are lost, mute, or serve people: single rules of the census, by example."""

from __future__ import annotations

import pytest
from world import make_spec

from chatoperator.census import (
    UNDELIVERED_S,
    UNRESPONSIVE_S,
    mute_pods,
    next_mute,
    rank_victims,
    take_census,
    why_lost,
)
from chatoperator.model import EntryView, Observed, PodKind, PodView, RegistryView

NOW = 1_000.0
SPEC = make_spec(3, ready_deadline_s=60)


def pod(name: str, **fields: object) -> PodView:
    """One that is well, and delivers."""
    given: dict[str, object] = {
        "kind": PodKind.CHAT,
        "revision": "new",
        "started_at": NOW - 500,
        "incarnation": f"{name}/i",
        "ready": True,
        "ever_ready": True,
        "answered_at": NOW,
        "connections": 5,
        "delivers": True,
        **fields,
    }
    return PodView(name=name, **given)  # type: ignore[arg-type]


def mute(name: str, for_s: float = UNDELIVERED_S, **fields: object) -> PodView:
    return pod(name, delivers=False, undelivered_since=NOW - for_s, **fields)


def leases(*names: str, live: bool = True) -> RegistryView:
    return RegistryView(tuple(EntryView(name, f"{name}/i", live) for name in names))


def seen(*pods: PodView, registry: RegistryView | None = None, **fields: object) -> Observed:
    held = leases(*(each.name for each in pods)) if registry is None else registry
    return Observed(pods=pods, registry=held, **fields)  # type: ignore[arg-type]


def why(each: PodView, *, wanted: str = "new", **fields: object) -> str:
    observed = Observed(**{"pods": (each,), "registry": leases(), **fields})  # type: ignore[arg-type]
    return why_lost(each, SPEC, observed, NOW, wanted)


def test_a_pod_of_a_lost_node_is_lost_with_its_lease() -> None:
    """As long as it holds one it serves people, and only its node cannot be heard."""
    cut_off = pod("a", node_lost=True)
    assert why(cut_off) == "its node is lost"
    assert why(cut_off, registry=leases("a")) == ""
    assert why(cut_off, registry=leases("a", live=False)) == "its node is lost"
    assert why(cut_off, registry=leases("b")) == "its node is lost"
    assert why(cut_off, registry=None) == "", "nobody can tell a lease"
    assert why(pod("a", kind=PodKind.API, node_lost=True), registry=None) == "its node is lost"
    assert why(pod("a", node_lost=True, stopping=True), registry=leases("a")) == ""


def test_a_pod_that_never_worked_is_lost_when_its_revision_was_given_up() -> None:
    fresh = pod("a", ready=False, ever_ready=False, started_at=NOW - 1)
    undone = frozenset({"new"})
    assert why(fresh, wanted="old", undone=undone) == "its revision was given up"
    assert why(fresh, wanted="new", undone=undone) == "", "nothing else is to be gone back to"
    assert why(pod("a"), wanted="old", undone=undone) == "", "people are on it"
    assert why(fresh, wanted="old", undone=frozenset({"other"})) == ""


def test_a_pod_that_is_late_is_lost() -> None:
    late = {"ready": False, "ever_ready": False}
    assert why(pod("a", started_at=NOW - 61, **late)) == "does not answer"
    assert why(pod("a", started_at=NOW - 60, **late)) == ""
    assert why(pod("a", started_at=NOW - 61, scheduled=False, **late)) == ""
    assert why(pod("a", started_at=NOW - 61, stopping=True, **late)) == ""
    assert why(pod("a", started_at=NOW - 61, **late), registry=None) == "", (
        "it cannot get ready without Redis"
    )
    assert why(pod("a", started_at=NOW - 61, **late), registry_since=NOW - 60) == ""
    api = pod("a", kind=PodKind.API, started_at=NOW - 61, **late)
    assert why(api, registry=None) == why(api, registry_since=NOW) == "does not answer"


def test_a_pod_is_silent_when_neither_it_nor_its_lease_was_heard_of() -> None:
    silent = {"ready": False, "answered_at": NOW - UNRESPONSIVE_S - 1}
    assert why(pod("a", **silent)) == "does not answer"
    assert why(pod("a", **{**silent, "answered_at": NOW - UNRESPONSIVE_S})) == ""
    assert why(pod("a", **{**silent, "ready": True})) == ""
    assert why(pod("a", **silent), registry=leases("a")) == ""
    assert why(pod("a", **silent), registry=None) == "", "nobody can tell a lease"
    assert why(pod("a", **silent), registry_since=NOW - UNRESPONSIVE_S) == "", (
        "leases are being written again"
    )
    never_heard = {**silent, "answered_at": None}
    assert why(pod("a", **never_heard)) == "does not answer"
    assert why(pod("a", **{**never_heard, "started_at": NOW - UNRESPONSIVE_S})) == ""


@pytest.mark.parametrize("fields", [{"draining_since": NOW, "drain_intent": True}, {"condemned": True}])
def test_a_pod_that_goes_is_no_witness(fields: dict[str, object]) -> None:
    failing = mute("a")
    assert mute_pods(seen(failing, pod("b")), NOW) == [failing]
    assert mute_pods(seen(failing, pod("b", **fields)), NOW) == []
    assert mute_pods(seen(failing, pod("b", ready=False)), NOW) == []


def test_a_pod_is_mute_after_a_while_and_while_others_deliver() -> None:
    assert mute_pods(seen(mute("a", UNDELIVERED_S - 1), pod("b")), NOW) == []
    assert mute_pods(seen(mute("a"), pod("b", delivers=None)), NOW) == []
    longest = [mute("c", 30), mute("a", 20), mute("d", 20)]
    assert mute_pods(seen(*sorted(longest, key=lambda each: each.name), pod("b")), NOW) == longest
    assert mute_pods(Observed(pods=(mute("a"), pod("b"))), NOW) == [], "nothing is known without Redis"
    assert mute_pods(seen(mute("a", stopping=True), pod("b")), NOW) == []


def test_a_pod_without_a_lease_is_mute_while_others_hold_theirs() -> None:
    deaf = pod("a", delivers=None, answered_at=NOW - UNRESPONSIVE_S - 1)
    other = pod("b", delivers=None)
    assert mute_pods(seen(deaf, other, registry=leases("b")), NOW) == [deaf]
    assert mute_pods(seen(deaf, other, registry=leases()), NOW) == []
    assert mute_pods(seen(deaf, other), NOW) == []


def test_one_mute_pod_goes_at_a_time() -> None:
    failing, well = mute("a"), pod("b")
    assert next_mute(seen(failing, well), NOW) == failing
    for going in (
        pod("c", drain_intent=True, draining_since=NOW),
        mute("c", stopping=True),
    ):
        assert next_mute(seen(failing, well, going), NOW) is None
    assert next_mute(seen(failing, well, pod("c", stopping=True)), NOW) == failing
    gone = mute("c", stopping=True, node_lost=True)
    assert next_mute(seen(failing, well, gone), NOW) == failing
    assert next_mute(seen(mute("a", ever_ready=False), well), NOW) is None
    assert next_mute(seen(mute("a", drain_told=True), well), NOW) is None


def test_who_serves_is_ready_delivers_and_holds_its_lease() -> None:
    pods = (pod("a"), pod("b"), pod("c", delivers=False), pod("d", delivers=None), pod("e", ready=False))
    registry = RegistryView((*leases("a", "c", "d", "e").entries, EntryView("b", "b/i", live=False)))
    census = take_census(PodKind.CHAT, SPEC, seen(*pods, registry=registry), NOW, "new")
    assert {each.name for each in census.active if each.ready} == {"a", "d"}
    blind = take_census(PodKind.CHAT, SPEC, Observed(pods=pods), NOW, "new")
    assert {each.name for each in blind.active if each.ready} == {"a", "b", "d"}
    api = pod("api", kind=PodKind.API)
    assert take_census(PodKind.API, SPEC, seen(api, registry=leases()), NOW, "new").active == [api]


def test_a_pod_of_unknown_load_goes_after_those_that_are_known() -> None:
    assert [
        each.name for each in rank_victims([pod("a", connections=None), pod("b", connections=99)], "new")
    ] == [
        "b",
        "a",
    ]
