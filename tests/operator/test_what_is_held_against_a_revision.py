"""When a revision is given up, and when it is good: single judgements, by example."""

from __future__ import annotations

import pytest
from msgspec import structs
from world import make_spec

from chatoperator.model import DeliveryView, Failures, Observed, PodKind, PodView, RegistryView
from chatoperator.revision import revision_of
from chatoperator.rollout import GOOD_AFTER_S, UNHEALTHY_S, RolloutMemory, judge, wanted_of

NOW = 10_000.0
SPEC = make_spec(3, ready_deadline_s=10)
NEW, OLD = revision_of(SPEC, PodKind.CHAT), "old"
PATIENCE_S = 30.0
"""Three deadlines: `undo_after_failures` is three."""
MEMORY = RolloutMemory(last_good=OLD, wanted=NEW, wanted_since=NOW - 1_000)


def pod(name: str, **fields: object) -> PodView:
    """One of the new revision that has long been well."""
    given = {"revision": NEW, "started_at": NOW - 500, "ready": True, "ever_ready": True, **fields}
    return PodView(name=name, kind=PodKind.CHAT, **given)  # type: ignore[arg-type]


def stuck(name: str, **fields: object) -> PodView:
    """One that was not ready in time."""
    return pod(name, **{"ready": False, "ever_ready": False, "started_at": NOW - 11, **fields})


def ill(name: str, for_s: float, **fields: object) -> PodView:
    """One that was ready, and is not any more."""
    return pod(name, ready=False, unready_since=NOW - for_s, **fields)


def seen(*pods: PodView, **fields: object) -> Observed:
    return Observed(**{"pods": pods, "registry": RegistryView(), "desired": 3, **fields})  # type: ignore[arg-type]


def fault(*pods: PodView, memory: RolloutMemory = MEMORY, **fields: object) -> str:
    """Why it is given up; "": it is not."""
    undone = judge(SPEC, seen(*pods, **fields), memory, NOW).undone
    return "" if undone is None else undone.reason


def test_it_is_good_when_all_pods_have_been_well_for_a_while() -> None:
    well = seen(pod("a"), pod("b"), pod("c"))
    began = judge(SPEC, well, MEMORY, NOW)
    assert (began.last_good, began.well_since) == (OLD, NOW)
    assert judge(SPEC, well, began, NOW + GOOD_AFTER_S - 1).last_good == OLD
    assert judge(SPEC, well, began, NOW + GOOD_AFTER_S).last_good == NEW


@pytest.mark.parametrize(
    "not_yet",
    [
        seen(pod("a"), pod("b")),
        seen(pod("a"), pod("b"), pod("c"), pod("d", revision=OLD)),
        seen(pod("a"), pod("b"), pod("c"), pod("d", delivers=False)),
        seen(pod("a"), pod("b"), pod("c"), registry=None),
        seen(pod("a"), pod("b"), pod("c"), delivery=DeliveryView(healthy=False, since=NOW)),
    ],
    ids=["too few", "an old one", "one that does not deliver", "no Redis", "no delivery"],
)
def test_while_something_is_amiss_it_is_not_good(not_yet: Observed) -> None:
    assert judge(SPEC, not_yet, structs.replace(MEMORY, well_since=NOW - 99), NOW).well_since is None


def test_what_is_good_is_not_given_up_whatever_befalls_its_pods() -> None:
    """There is nothing to go back to."""
    pods = [stuck("a"), stuck("b"), stuck("c"), ill("d", 99)]
    assert "3 were not ready" in fault(*pods)
    assert fault(*pods, memory=structs.replace(MEMORY, last_good=NEW)) == ""
    assert fault(*pods, memory=structs.replace(MEMORY, last_good="")) == ""


def test_deaths_count_from_when_it_was_wanted() -> None:
    """Those of another time, when the resource named it before, had their own end."""
    for last_at, counts in ((MEMORY.wanted_since - 1, False), (MEMORY.wanted_since, True)):
        died = {(PodKind.CHAT, NEW): Failures(3, last_at)}
        assert bool(fault(pod("a"), failures=died)) is counts
    assert fault(pod("a"), failures={(PodKind.CHAT, NEW): Failures(2, NOW)}) == ""
    assert fault(pod("a"), failures={(PodKind.CHAT, OLD): Failures(9, NOW)}) == ""


def test_pods_that_are_late_are_remembered_until_one_is_ready() -> None:
    first = judge(SPEC, seen(stuck("a"), stuck("b")), MEMORY, NOW)
    assert first.late == {"a", "b"}
    assert "3 were not ready within 10 s" in fault(stuck("c"), memory=first)
    assert judge(SPEC, seen(stuck("c"), pod("d")), first, NOW).late == frozenset()


def test_who_is_not_to_blame_is_not_late() -> None:
    for excused in (
        {"stopping": True},
        {"scheduled": False},
        {"started_at": NOW - 10},
        {"revision": OLD},
        {"alive": False},
    ):
        assert judge(SPEC, seen(stuck("a", **excused)), MEMORY, NOW).late == frozenset(), excused
    back = seen(stuck("a"), registry_since=NOW - 10)
    assert judge(SPEC, back, MEMORY, NOW).late == frozenset(), "it could not get ready before Redis was there"
    for away in ({"registry": None}, {"storage_up": False}):
        remembered = structs.replace(MEMORY, late=frozenset({"x"}))
        assert judge(SPEC, seen(stuck("a"), **away), remembered, NOW).late == {"x"}


def test_a_pod_that_stays_unready_is_held_against_it() -> None:
    assert fault(pod("b"), ill("a", PATIENCE_S + 1)) == "a stays unready"
    assert fault(ill("a", PATIENCE_S)) == ""
    for excused in (
        {"node_lost": True},
        {"drain_intent": True},
        {"stopping": True},
        {"revision": OLD},
    ):
        assert fault(ill("a", 99, **excused)) == "", excused
    assert fault(ill("a", 99), registry_since=NOW - PATIENCE_S) == ""
    assert fault(ill("a", 99), registry=None) == ""
    assert fault(ill("a", 99), storage_up=False) == ""


def test_a_pod_that_does_not_deliver_is_held_against_it_if_others_do() -> None:
    def mute(name: str, for_s: float = UNHEALTHY_S, **fields: object) -> PodView:
        return pod(name, delivers=False, undelivered_since=NOW - for_s, **fields)

    old = pod("old", revision=OLD, delivers=True)
    assert fault(old, mute("a")) == "a does not deliver messages, and pods of other revisions do"
    assert fault(old, mute("a", UNHEALTHY_S - 1)) == ""
    assert fault(old, mute("a"), pod("b", delivers=True)) == "", "another of it does"
    assert fault(mute("old", revision=OLD), mute("a")) == "", "nobody does"


def test_delivery_that_suffers_is_held_against_it_if_that_began_with_it() -> None:
    def suffers(for_s: float) -> dict[str, object]:
        return {"delivery": DeliveryView(healthy=False, since=NOW - for_s)}

    new = pod("a", started_at=NOW - 40)
    assert fault(new, **suffers(PATIENCE_S)) == "messages are not delivered since its pods are there"
    assert fault(new, **suffers(PATIENCE_S - 1)) == "", "for a while it may be something else"
    assert fault(new, **suffers(41)) == "", "it was so before"
    assert fault(pod("a", ready=False, started_at=NOW - 40), **suffers(PATIENCE_S)) == ""
    mute = pod("old", revision=OLD, delivers=False)
    assert fault(pod("a", started_at=NOW - 40, delivers=True), mute, **suffers(PATIENCE_S)) == ""
    assert fault(new, delivery=DeliveryView(healthy=None, since=NOW - PATIENCE_S)) == ""


def test_the_way_back_is_open_whatever_the_delivery() -> None:
    """What runs may be what spoils it."""
    spoilt = seen(pod("a", revision="bad"), delivery=DeliveryView(healthy=False, since=NOW - 99))
    forward = wanted_of(SPEC, structs.replace(spoilt, last_good="bad"), PodKind.CHAT, NOW)
    back = wanted_of(SPEC, structs.replace(spoilt, last_good=NEW), PodKind.CHAT, NOW)
    assert (forward.gate.is_open, forward.gate.needs_proof) == (False, True)
    assert (back.gate.is_open, back.gate.needs_proof) == (True, False)
    given_up = structs.replace(spoilt, last_good=OLD, undone=frozenset({NEW}))
    assert wanted_of(SPEC, given_up, PodKind.CHAT, NOW).gate.is_open


def test_without_undo_nothing_is_given_up_and_what_was_is_forgotten() -> None:
    spec = structs.replace(SPEC, rollout=structs.replace(SPEC.rollout, undo=False))
    given_up = judge(SPEC, seen(stuck("a"), stuck("b"), stuck("c")), MEMORY, NOW)
    assert given_up.undone is not None
    assert judge(spec, seen(), given_up, NOW).undone is None
    assert judge(spec, seen(stuck("a"), stuck("b"), stuck("c")), MEMORY, NOW).undone is None


def test_what_was_given_up_stays_so_and_is_never_called_good() -> None:
    given_up = judge(SPEC, seen(stuck("a"), stuck("b"), stuck("c")), MEMORY, NOW)
    later = judge(SPEC, seen(pod("a"), pod("b"), pod("c")), given_up, NOW + 99)
    assert later.undone == given_up.undone
    assert (later.last_good, later.well_since) == (OLD, None)


def test_a_pause_changes_no_judgement() -> None:
    paused = structs.replace(SPEC, pause=True)
    assert judge(paused, seen(stuck("a"), stuck("b"), stuck("c")), MEMORY, NOW) == MEMORY
