"""Which channels are tried apart from the others, while a part of the store may be away."""

from __future__ import annotations

import time
from random import Random

import pytest

from chatkernel import apart
from chatkernel.apart import Apart
from chatkernel.backlog import Backlog
from chatkernel.drafts import Draft
from chatkernel.protocol import EventKind


def draft(channel: str) -> Draft:
    return Draft(channel, "u_ann", "one", EventKind.MESSAGE, 1, lambda *_: None, "x")


def served(one: Apart, channel: str, *, asked: bool = True) -> None:
    one.put(draft(channel))
    trial = one.take()
    assert trial is not None
    trial.attempt.asked = asked
    assert one.served(trial.attempt, []) == []
    one.ended(trial, True)


async def test_who_was_answered_from_memory_is_in_doubt_as_before() -> None:
    one = Apart(Random(1))
    one.begin((), time.monotonic())
    served(one, "g_known", asked=False)
    served(one, "g_asked")
    assert one.has("g_known") and not one.has("g_asked")


async def test_of_those_that_were_served_many_are_forgotten_but_none_that_could_be_overtaken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apart, "KNOWN_MOST", 3)
    queue = Backlog(Random(1))
    queue.apart.begin((), time.monotonic())

    def serve(channel: str) -> None:
        queue.submit(draft(channel))
        trial = queue.apart.take()
        assert trial is not None
        trial.attempt.asked = True
        queue.done(queue.begun(trial.attempt))
        queue.apart.ended(trial, True)

    for channel in ("g_under_way", "g_waits"):
        serve(channel)
        queue.submit(draft(channel))
        if channel == "g_under_way":
            assert queue.take() is not None
    for number in range(4):
        serve(f"g_{number}")
    assert not queue.apart.has("g_under_way") and not queue.apart.has("g_waits")
    assert sum(not queue.apart.has(f"g_{number}") for number in range(4)) <= 1
