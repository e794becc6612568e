"""One shard of two has no primary: a router lets whatever needs it wait until the time is up. The appender on a
scripted router, whose shards are the names of channels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
from channel_log import ChannelLog
from support.mongo.commands.call import Call
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.topology import mongos
from support.mongo.wire import Document

from chatkernel import pump
from chatkernel.appender import Appender
from chatkernel.drafts import Placed
from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange
from chatkernel.storage.mongo.store import MongoStore, open_mongo

HEALTHY = [f"local_g1{n:02d}" for n in range(12)]
DEAD = [f"local_g2{n:02d}" for n in range(4)]
TIMEOUT_MS = 4_000
SOON_S = 1.0
DEADLINE_S = 8.5
"""Within it a sender has an answer, whatever the store does, and a little for a busy machine."""


@dataclass
class Shards:
    """The hook of a router. Commands for the shard that is away wait until they time out, or it is back."""

    back: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.back.set()

    async def __call__(self, call: Call) -> Document:
        if self.back.is_set() or not any(repr(channel) in repr(call.command) for channel in DEAD):
            return await call.proceed()
        if call.name == "insert":  # the other shard takes its own, and the answer waits
            others = [each for each in call.command["documents"] if each["channel_id"] not in DEAD]
            if others:
                await call.proceed(call.command | {"documents": others})
        try:
            await asyncio.wait_for(self.back.wait(), call.command.get("maxTimeMS", 20_000) / 1000)
        except TimeoutError:
            raise CommandError(ErrorCode.INTERNAL_ERROR, "operation exceeded time limit") from None
        return await call.proceed()


@dataclass
class Pod:
    store: MongoStore
    appender: Appender
    shards: Shards

    async def say(self, channel: str, key: str) -> Placed:
        placed, _ = await self.appender.append(
            channel_id=channel,
            sender_id="u_ann",
            client_msg_id=key,
            kind=EventKind.MESSAGE,
            members_seq=1,
            text=key,
        )
        return placed

    async def say_until_acked(self, channel: str, key: str, refusals_after_s: list[float]) -> None:
        while True:
            started_s = time.monotonic()
            try:
                await self.say(channel, key)
            except ChatError as error:
                assert error.retryable, error
                refusals_after_s.append(time.monotonic() - started_s)
            else:
                return

    async def keys(self, channel: str) -> list[str]:
        [events] = await self.store.events([EventRange(channel, 1, 10_000)])
        assert [event.seq for event in events] == list(range(2, len(events) + 2))
        return [event.client_msg_id for event in events]


@pytest.fixture
async def pod(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pod]:
    monkeypatch.setattr(pump, "SLOW_S", 0.2)
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(mongos())
        joint = "&" if "?" in router.url else "?"
        store = await open_mongo(f"{router.url}{joint}timeoutMS={TIMEOUT_MS}")
        stack.push_async_callback(store.aclose)
        await store.ensure_schema()
        for channel in HEALTHY + DEAD:
            await ChannelLog(store, channel).create("u_ann", "u_bob")
        await store._trail.settle()
        shards = Shards()
        router.on("*", shards)
        appender = Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None)
        stack.push_async_callback(appender.aclose)
        stack.callback(shards.back.set)
        yield Pod(store, appender, shards)


async def talk(pod: Pod, channel: str, until_s: float) -> tuple[list[str], float]:
    """What was sent there, and the slowest `ack`."""
    keys: list[str] = []
    slowest_s = 0.0
    while (started_s := time.monotonic()) < until_s:
        keys.append(f"k{len(keys)}")
        await pod.say(channel, keys[-1])
        slowest_s = max(slowest_s, time.monotonic() - started_s)
        await asyncio.sleep(0.05)
    return keys, slowest_s


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
async def test_a_shard_that_is_away_makes_nobody_wait_who_does_not_need_it(pod: Pod, known: bool) -> None:
    """All acks of the healthy shard are quick, from the first moment on; who needs the other hears in time, and when
    it is back everything arrives once."""
    if known:  # the ends of their logs are remembered: the first thing that waits is an insert
        await asyncio.gather(*(pod.say(channel, "before") for channel in HEALTHY + DEAD))
    pod.shards.back.clear()
    refusals_after_s: list[float] = []
    dead = [
        asyncio.create_task(pod.say_until_acked(channel, f"k{n}", refusals_after_s))
        for channel in DEAD
        for n in range(3)
    ]
    until_s = time.monotonic() + DEADLINE_S
    talks = await asyncio.gather(*(talk(pod, channel, until_s) for channel in HEALTHY))
    assert max(slowest_s for _, slowest_s in talks) < SOON_S
    assert not any(task.done() for task in dead)
    assert len(refusals_after_s) == len(dead) and max(refusals_after_s) < DEADLINE_S
    pod.shards.back.set()
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*dead)
    first = ["before"] if known else []
    for channel, (keys, _) in zip(HEALTHY, talks, strict=True):
        assert await pod.keys(channel) == first + keys
    for channel in DEAD:
        assert sorted(await pod.keys(channel)) == sorted([*first, "k0", "k1", "k2"])
