"""Unacked commands: one at a time per channel, in order, through errors and lost links."""

from __future__ import annotations

import itertools
from random import Random

from chatclient.backoff import CAP_S, FIRST_CAP_S, Backoff
from chatclient.outbox import Outbox
from chatkernel.protocol import Ack, Error, Send


def new_outbox() -> tuple[Outbox, list[object]]:
    ids = itertools.count(1)
    return Outbox(lambda: f"f{next(ids)}", lambda: Backoff(Random(1))), []


def send(key: str, channel: str = "c1") -> Send:
    return Send("-", channel, key, "text")


def test_a_channel_waits_for_its_ack_and_others_do_not() -> None:
    outbox, done = new_outbox()
    for command in (send("a"), send("b"), send("x", "c2")):
        outbox.add(command, done.append)
    assert [c.client_msg_id for c in outbox.take("link", 0)] == ["a", "x"]
    assert outbox.answer(Ack("f1"), 0)
    assert [c.client_msg_id for c in outbox.take("link", 0)] == ["b"]
    assert len(outbox) == 2


def test_what_was_on_a_dead_link_goes_again_with_the_same_key_and_before_the_rest() -> None:
    outbox, done = new_outbox()
    outbox.add(send("a"), done.append)
    outbox.add(send("b"), done.append)
    (first,) = outbox.take("old", 0)
    outbox.lost("old")
    (again,) = outbox.take("new", 0)
    assert (again.client_msg_id, again.id != first.id) == ("a", True)


def test_a_late_answer_to_an_earlier_sending_counts() -> None:
    outbox, done = new_outbox()
    outbox.add(send("a"), done.append)
    outbox.take("link", 0)
    for pending in outbox.overdue(10, 6):
        outbox.again(pending)
    assert outbox.answer(Ack("f1"), 10)
    assert done == [Ack("f1")] and not outbox
    assert outbox.take("link", 11) == []
    assert not outbox.answer(Ack("f1"), 12)


def test_a_retryable_error_waits_as_told_and_a_final_one_ends_it() -> None:
    outbox, done = new_outbox()
    outbox.add(send("a"), done.append)
    outbox.take("link", 0)
    outbox.answer(Error("f1", "rate_limited", "", True, retry_after_ms=2000), 0)
    assert outbox.take("link", 1.9) == []
    assert len(outbox.take("link", 4)) == 1
    final = Error("f2", "forbidden", "", False)
    outbox.answer(final, 4)
    assert done == [final]


def test_back_off_is_quick_at_first_jittered_and_capped() -> None:
    backoff = Backoff(Random(3))
    waits = [backoff.next_s() for _ in range(50)]
    assert waits[0] <= FIRST_CAP_S and max(waits) <= CAP_S
    assert len({round(wait, 3) for wait in waits}) > 40
    assert backoff.next_s(7.0) >= 7.0
