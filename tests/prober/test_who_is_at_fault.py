"""Which pod is blamed for what does not arrive."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from prober.judge import BOUND_S, CONNECT_WITHIN_S, CONTROL, KNOWN_S, WINDOW_S, Judge
from prober.probe import TURN_S

MS = 0.001


class Days:
    """Messages each second, by the control and by a pod in turn. `lost(sender, receiver, now)` are not delivered, and
    what is sent by `unstored` is not taken."""

    def __init__(self, *pods: str, excused: Callable[[str, float], bool] | None = None) -> None:
        self.judge = Judge(excused) if excused else Judge()
        self.pods, self.now, self._number = list(pods), 1000.0, 0
        self.lost: Callable[[str, str, float], bool] = lambda sender, receiver, now: False
        self.unstored: Callable[[str], bool] = lambda sender: False
        for pod in pods:
            self.judge.connecting(pod, self.now)
            self.judge.connected(pod)

    def pass_by(self, seconds: float) -> Days:
        for _ in range(int(seconds)):
            self._number += 1
            self._say(CONTROL)
            self._say(self.pods[self._number % len(self.pods)])
            for _ in range(4):
                self.now += 0.25
                self.judge.settle(self.now)
        return self

    def _say(self, sender: str) -> None:
        message = f"{sender}-{self._number}"
        self.judge.sent(message, sender, self.pods, self.now)
        if self.unstored(sender):
            return
        self.judge.stored(message, self.now)
        for pod in self.pods:
            if not self.lost(sender, pod, self.now):
                self.judge.arrived(message, pod, self.now + 5 * MS)

    def blamed(self) -> set[str]:
        verdicts = {pod: self.judge.verdict(pod, self.now) for pod in self.pods}
        return {pod for pod, verdict in verdicts.items() if verdict is not None and not verdict[0]}

    def unknown(self) -> set[str]:
        return {pod for pod in self.pods if self.judge.verdict(pod, self.now) is None}


def test_when_all_arrives_nobody_is_blamed() -> None:
    days = Days("a", "b", "c").pass_by(20)
    assert (days.blamed(), days.unknown(), days.judge.gaps(days.now)) == (set(), set(), 0)
    assert set(map(round, days.judge.latencies_ms(days.now))) == {5}


def test_a_pod_that_hears_nothing_is_blamed_alone_and_in_time() -> None:
    for others in (["b"], ["b", "c", "d"]):
        days = Days("a", *others).pass_by(20)
        began = days.now
        days.lost = lambda sender, receiver, now: receiver == "a" and sender != "a"
        days.pass_by(10)
        assert days.blamed() == {"a"}
        verdict = days.judge.verdict("a", days.now)
        assert verdict is not None and verdict[1] is not None and began <= verdict[1] < began + 2
        assert days.judge.gaps(days.now) > 0
        days.lost = lambda sender, receiver, now: False
        days.pass_by(WINDOW_S)
        assert days.blamed() == set()


def test_so_is_one_that_is_mended_from_the_store_now_and_then() -> None:
    days = Days("a", "b").pass_by(20)
    days.lost = lambda sender, receiver, now: receiver == "a" and now % 10 < 8
    for _ in range(8):
        days.pass_by(1)
    days.pass_by(5)
    for _ in range(20):
        days.pass_by(1)
        assert days.blamed() == {"a"}


def test_a_pod_that_hands_nothing_on_is_blamed_alone() -> None:
    days = Days("a", "b", "c").pass_by(20)
    days.lost = lambda sender, receiver, now: sender == "a" and receiver != "a"
    days.pass_by(12)
    assert days.blamed() == {"a"}
    days.lost = lambda sender, receiver, now: False
    days.pass_by(8)
    assert days.blamed() == set()


def test_also_if_somebody_finds_what_it_did_not_hand_on_in_the_store() -> None:
    """Now and then a pod compares its channels with the store, just then."""
    days = Days("a", "b", "c", "d").pass_by(20)
    days.lost = lambda sender, receiver, now: sender == "a" and receiver in "bcd"[int(now / 4) % 3 :][:2]
    days.pass_by(20)
    assert days.blamed() == {"a"}


@pytest.mark.parametrize("beat", range(10))
def test_in_time_though_the_heartbeats_of_all_find_at_once_what_was_sent_just_before(beat: int) -> None:
    """Every ten seconds, at any moment of them. Here as many pods as seconds until it is a pod's turn again."""
    days = Days(*"abcdefghij"[: int(TURN_S)]).pass_by(20)
    began = days.now
    days.lost = lambda sender, receiver, now: sender == "a" and receiver != "a" and (now - began) % 10 != beat
    days.pass_by(15)
    assert days.blamed() == {"a"}


def test_so_is_one_that_takes_nothing_while_others_do() -> None:
    days = Days("a", "b", "c").pass_by(20)
    days.unstored = lambda sender: sender == "b"
    days.pass_by(12)
    assert days.blamed() == {"b"}


def test_when_nobody_can_store_nobody_is_blamed_and_soon_nothing_is_known() -> None:
    days = Days("a", "b").pass_by(20)
    days.unstored = lambda sender: True
    for _ in range(30):
        days.pass_by(1)
        assert days.blamed() == set()
    assert days.unknown() == {"a", "b"}


def test_when_nothing_arrives_anywhere_nobody_is_blamed_but_it_is_told() -> None:
    days = Days("a", "b", "c").pass_by(20)
    days.lost = lambda sender, receiver, now: sender != receiver
    for _ in range(30):
        days.pass_by(1)
        assert days.blamed() == set()
    assert days.unknown() == {"a", "b", "c"} and days.judge.gaps(days.now) > 0


def test_a_hiccup_of_two_seconds_blames_nobody() -> None:
    days = Days("a", "b").pass_by(20)
    hiccup = days.now + 2
    days.lost = lambda sender, receiver, now: receiver == "a" and now < hiccup
    for _ in range(15):
        days.pass_by(1)
        assert days.blamed() == set()


def test_a_pod_whose_redis_is_away_is_excused() -> None:
    days = Days("a", "b", "c", excused=lambda pod, since: pod == "a").pass_by(20)
    days.lost = lambda sender, receiver, now: receiver == "a"
    days.pass_by(20)
    assert days.blamed() == set() and days.unknown() == {"a"}


def test_what_was_under_way_when_a_connection_was_lost_is_not_judged() -> None:
    judge, now = Judge(), 1000.0
    for pod in ("a", "b"):
        judge.connected(pod)
    for number in range(5):
        judge.sent(f"{number}", "a", ["a", "b"], now + number * MS)
    judge.sent("control", CONTROL, ["a", "b"], now + 1)
    judge.stored("control", now + 1)
    judge.lost("a")
    judge.arrived("control", "b", now + 1)
    judge.settle(now + 1 + BOUND_S)
    assert judge.verdict("a", now + 2) is None
    assert judge.verdict("b", now + 2) == (True, None)


def test_a_registered_pod_that_cannot_be_connected_to_is_blamed_if_others_can() -> None:
    days = Days("a", "b").pass_by(5)
    days.judge.connecting("c", days.now)
    days.pass_by(CONNECT_WITHIN_S - 1)
    assert days.judge.verdict("c", days.now) is None
    since = days.now - (CONNECT_WITHIN_S - 1)
    days.pass_by(2)
    assert days.judge.verdict("c", days.now) == (False, since)
    days.judge.connected("c")
    days.pass_by(1)
    assert days.judge.verdict("c", days.now) == (True, None)
    alone = Days("a")
    alone.judge.connecting("c", alone.now)
    alone.lost = lambda sender, receiver, now: True
    assert alone.pass_by(20).judge.verdict("c", alone.now) is None


def test_after_an_outage_nothing_of_before_is_held_against_anybody() -> None:
    days = Days("a", "b").pass_by(5)
    days.lost = lambda sender, receiver, now: receiver == "a"
    days.pass_by(2)
    days.judge.void()
    days.lost = lambda sender, receiver, now: False
    days.pass_by(10)
    assert days.blamed() == set()


def test_memory_is_bounded() -> None:
    days = Days("a", "b").pass_by(3000)
    assert len(days.judge._pending) < 10
    assert all(len(pod.received) < 40 and len(pod.latencies) <= 200 for pod in days.judge._pods.values())
    days.judge.forget("a")
    assert days.judge.pods == ["b"] and days.judge.verdict("a", days.now) is None
    assert KNOWN_S > WINDOW_S
