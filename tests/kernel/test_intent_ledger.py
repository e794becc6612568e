"""Which intents are in Redis: written in time, seldom for a busy channel, gone when it rests."""

from __future__ import annotations

from chatkernel.intents import KEEP_S, REFRESH_S, Ledger


def note(ledger: Ledger, *channels: str, at: float) -> list[str]:
    ledger.begin(channels, at)
    taken = ledger.take()
    ledger.written(taken)
    return sorted(taken)


def announce(ledger: Ledger, *channels: str) -> None:
    ledger.announced(ledger.mark(channels))


def test_a_busy_channel_is_written_now_and_then() -> None:
    ledger = Ledger()
    assert note(ledger, "a", at=0) == ["a"]
    assert note(ledger, "a", "b", at=REFRESH_S / 2) == ["b"]
    assert note(ledger, "a", "b", at=REFRESH_S) == ["a"]


def test_what_could_not_be_written_is_written_with_the_next_append() -> None:
    ledger = Ledger()
    ledger.begin(["a"], 0)
    assert sorted(ledger.take()) == ["a"]
    assert note(ledger, "a", at=0.001) == ["a"]


def test_a_channel_is_struck_off_once_it_is_announced_and_rests() -> None:
    ledger = Ledger()
    note(ledger, "a", at=0)
    assert ledger.settled(KEEP_S) == []
    announce(ledger, "a")
    assert ledger.settled(KEEP_S / 2) == []
    assert ledger.settled(KEEP_S) == ["a"]
    ledger.struck(["a"])
    assert not ledger


def test_an_announcement_of_an_earlier_append_does_not_settle_a_later_one() -> None:
    ledger = Ledger()
    note(ledger, "a", at=0)
    earlier = ledger.mark(["a"])
    note(ledger, "a", at=0.1)
    ledger.announced(earlier)
    assert ledger.settled(10) == []
    announce(ledger, "a")
    assert ledger.settled(10) == ["a"]


def test_one_that_stays_does_not_keep_the_others() -> None:
    ledger = Ledger()
    note(ledger, "lost", "a", at=0)
    announce(ledger, "a")
    assert ledger.settled(KEEP_S) == ["a"]
