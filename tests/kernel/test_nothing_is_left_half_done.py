"""What was begun is ended: publishes when a service stops, and answers when telling others fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support.desk import Desk

from chatkernel.bus import Poke, Post
from chatkernel.protocol import Ack, Read
from chatkernel.publisher import Publisher


class SlowBus:
    """Takes its time for each publish."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.published = 0

    async def publish(self, posts: Sequence[Post]) -> int:
        self.begun.set()
        await asyncio.sleep(0.05)
        self.published += len(posts)
        return 1


async def test_a_publish_that_is_on_its_way_when_the_service_stops_is_waited_for() -> None:
    bus: Any = SlowBus()
    publisher = Publisher(bus, None)
    publisher.start()
    publisher.publish([Post(Poke(["c"]), channels=("c",))])
    await bus.begun.wait()
    await publisher.aclose()
    assert bus.published == 1


async def test_a_watermark_is_answered_when_nobody_can_be_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await desk.group("ann", "bob")

    def fails(_: object) -> None:
        raise RuntimeError("nobody listens")

    monkeypatch.setattr(desk.receipts, "_tell", fails)
    assert await asyncio.wait_for(desk.does("bob", Read("1", channel, 1)), 2) == Ack("1")
