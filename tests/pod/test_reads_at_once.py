"""One connection has a few long reads under way at most, however many it has asked for; all are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.cluster import eventually
from support.live import live
from support.one_pod import Elsewhere, OnePod
from support.one_socket import Line

from chatkernel.gate import Gate
from chatkernel.protocol import Ack, Error, Hello, History, Limits, Page, PresenceWatch
from chatpod import endpoint

ASKED = 30


class Slow:
    """Messaging whose reads wait until they are let go; other frames are answered at once."""

    def __init__(self) -> None:
        self.reading = self.most = 0
        self.go = asyncio.Event()

    async def perform(self, _actor: object, frame: Any) -> list[Any]:
        if isinstance(frame, History):
            self.reading += 1
            self.most = max(self.most, self.reading)
            await self.go.wait()
            self.reading -= 1
            return [Page(frame.id, "history"), Ack(frame.id)]
        return [Ack(frame.id)]


async def test_others_wait_their_turn_and_what_is_quick_does_not(pod: OnePod, elsewhere: Elsewhere) -> None:
    await elsewhere.group("local_g1", "u_own", "u_eve")
    slow = Slow()
    line = Line(pod, perform=slow.perform)
    line.say(Hello("h", "ticket"))
    await line.hear(Ack)
    for n in range(ASKED):
        line.say(History(f"r{n}", "local_g1"))
    line.say(PresenceWatch("quick", channel_id="local_g1"))

    def acked() -> list[str]:
        return [frame.id for frame in line.wire.frames if isinstance(frame, Ack)]

    async def quick() -> bool:
        return "quick" in acked()

    await eventually(quick, step_s=0.005)
    most = Limits().reads_at_once_max
    assert slow.most == most and acked() == ["h", "quick"]
    slow.go.set()

    async def all_done() -> bool:
        return len(acked()) == ASKED + 2

    await eventually(all_done, step_s=0.005)
    assert slow.most == most
    await line.hang_up()


async def test_a_pod_has_so_many_under_way_and_one_too_many_is_told_to_come_back(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group("local_g1", "u_own", "u_eve")
    slow = Slow()
    line = Line(pod, perform=slow.perform)
    line.socket._pod.gate = Gate(live(Limits(requests_at_once_max=3)))
    line.say(Hello("h", "ticket"))
    await line.hear(Ack)
    for n in range(5):
        line.say(History(f"r{n}", "local_g1"))

    def answers(kind: type[Ack | Error]) -> list[str | None]:
        return [frame.id for frame in line.wire.frames if isinstance(frame, kind)]

    refusal = await line.hear(Error)
    assert isinstance(refusal, Error)
    assert (refusal.code, refusal.retryable, refusal.retry_after_ms) == ("busy", True, 1000)
    assert answers(Error) == ["r3", "r4"]
    slow.go.set()

    async def all_done() -> bool:
        return len(answers(Ack)) == 4

    await eventually(all_done, step_s=0.005)
    line.say(History("again", "local_g1"))

    async def again() -> bool:
        return "again" in answers(Ack)

    await eventually(again, step_s=0.005)
    await line.hang_up()


async def test_who_waits_for_reads_that_do_not_end_is_told_to_come_back(
    pod: OnePod, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "TURN_WITHIN_S", 0.05)
    await elsewhere.group("local_g1", "u_own", "u_eve")
    slow = Slow()
    line = Line(pod, perform=slow.perform)
    line.say(Hello("h", "ticket"))
    await line.hear(Ack)
    most = Limits().reads_at_once_max
    for n in range(most + 1):
        line.say(History(f"r{n}", "local_g1"))
    refusal = await line.hear(Error)
    assert isinstance(refusal, Error)
    assert (refusal.id, refusal.code, refusal.retry_after_ms) == (f"r{most}", "busy", 1000)
    slow.go.set()

    async def others_are_answered() -> bool:
        return len([frame for frame in line.wire.frames if isinstance(frame, Ack)]) == most + 1

    await eventually(others_are_answered, step_s=0.005)
    await line.hang_up()
