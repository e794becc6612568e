"""One pod's end of the bus, reading in the background."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from chatkernel.bus import Bus, BusGap, Envelope, EventEnvelope, GapReason, Post
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis
from chatkernel.routes import Routes


class Pod:
    def __init__(self, redis: Redis, keys: Keys, name: str) -> None:
        self.name = name
        self.routes = Routes(redis, keys, name)
        self.bus = Bus(redis, keys, self.routes, name)
        self.got: list[Envelope] = []
        self.gaps: list[GapReason] = []
        self.news = asyncio.Event()

    async def read(self, stop: asyncio.Event) -> None:
        async for item in self.bus.read(stop):
            if isinstance(item, BusGap):
                self.gaps.append(item.reason)
            else:
                self.got += item
            self.news.set()

    async def until(self, condition: Callable[[], bool], within_s: float = 5.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def pods(redis: Redis, keys: Keys, *names: str) -> AsyncIterator[list[Pod]]:
    """Pods that have opened their streams and read."""
    all_pods = [Pod(redis, keys, name) for name in names]
    stop = asyncio.Event()
    for pod in all_pods:
        await pod.bus.open()
    # Each needs a connection of its own to wait on; one client's calls that wait go one after the other.
    tasks = [asyncio.create_task(pod.read(stop)) for pod in all_pods]
    try:
        yield all_pods
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def event(channel: str, seq: int, frame: bytes = b"{}") -> Post:
    return Post(EventEnvelope(channel, seq, frame, False), (channel,))


def sender_of(redis: Redis, keys: Keys) -> Bus:
    """The bus of a service that has no stream of its own."""
    return Bus(redis, keys, Routes(redis, keys, ""), "")
