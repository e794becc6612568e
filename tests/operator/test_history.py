"""What the operator remembers between two looks."""

from __future__ import annotations

from chatoperator.history import History
from chatoperator.model import PodKind, PodView, RegistryView


def pod(name: str, **fields: object) -> PodView:
    defaults: dict[str, object] = {"ready": True, "ever_ready": True, "connections": 3, "started_at": 0.0}
    return PodView(name=name, kind=PodKind.CHAT, revision="r", **{**defaults, **fields})  # type: ignore[arg-type]


def test_a_pod_that_vanishes_is_a_disturbance_and_no_failure() -> None:
    history = History()
    history.look([pod("a"), pod("b")], None, 1.0)
    observed = history.look([pod("b")], None, 2.0)
    assert (observed.disturbed_at, observed.failures) == (2.0, {})
    history.look([pod("b", stopping=True)], None, 3.0)
    assert history.look([], None, 4.0).disturbed_at == 2.0, "who was asked to go may go"


def test_who_is_there_at_the_first_look_did_not_join_then() -> None:
    history = History()
    assert history.look([pod("a"), pod("b")], None, 1.0).disturbed_at is None
    assert history.look([pod("a"), pod("b"), pod("c")], None, 2.0).disturbed_at == 2.0


def test_since_when_redis_answers_or_does_not() -> None:
    history, up = History(), RegistryView()
    looks = [
        (up, 1.0, None),
        (up, 2.0, None),
        (None, 3.0, 3.0),
        (None, 4.0, 3.0),
        (up, 5.0, 5.0),
        (up, 6.0, 5.0),
    ]
    for registry, now, since in looks:
        assert history.look([], registry, now).registry_since == since
    assert History().look([], None, 7.0).registry_since == 7.0


def test_a_pod_that_was_started_since_and_lives_ends_the_row_of_early_deaths() -> None:
    history, old = History(30.0), pod("old", started_at=-100.0)
    history.look([old, pod("a", started_at=1.0)], None, 2.0)
    dead = pod("a", started_at=1.0, alive=False)
    assert history.look([old, dead], None, 3.0).failures[PodKind.CHAT, "r"].count == 1
    assert history.look([old], None, 50.0).failures[PodKind.CHAT, "r"].count == 1, "old was there before"
    for now, count in ((20.0, 1), (34.0, 1)):
        failures = history.look([old, pod("b", started_at=4.0)], None, now).failures
        assert failures[PodKind.CHAT, "r"].count == count
    assert history.look([old, pod("b", started_at=4.0)], None, 35.0).failures == {}


def test_how_long_is_young_depends_on_the_place() -> None:
    for lived_s, count in ((5.0, 0), (30.0, 1)):
        history = History(lived_s)
        history.look([pod("a")], None, 1.0)
        observed = history.look([pod("a", alive=False)], None, 10.0)
        assert observed.failures[PodKind.CHAT, "r"].count == count
