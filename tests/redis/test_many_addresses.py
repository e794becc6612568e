"""What is for very many addresses goes out in parts: in order, and without holding up what else the process does."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.bus_pod import BusPod
from support.bus_reader import event, pods, sender_of
from support.valkey import Valkey, eventually, redis_client

from chatkernel import bus as bus_module
from chatkernel import publisher as publisher_module
from chatkernel.bus import Bus, EventEnvelope, NotPublished, Poke, Post, PresenceChange
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.publisher import Publisher
from chatkernel.redis_client import Redis, execute
from chatkernel.routes import Routes

TURN_MAX_S = 0.05
"""Of this thread's own work, so that it is the same on a machine that does other things, too. A turn of a part takes
a tenth of this, all at once six times as much."""


@asynccontextmanager
async def longest_turn() -> AsyncIterator[list[float]]:
    """How long the loop worked without coming back to somebody who wanted it, in CPU seconds."""
    found = [0.0]
    # Not what it costs to look for garbage among all that other tests have left.
    gc.collect()
    gc.freeze()

    async def look() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            found[0] = max(found[0], now - before)
            before = now

    looking = asyncio.create_task(look())
    try:
        await asyncio.sleep(0)
        yield found
        await asyncio.sleep(0.002)
    finally:
        looking.cancel()
        gc.unfreeze()


def people_with_friends(people: int, friends: int) -> list[Post]:
    """Each has friends of their own, and one that is everybody's."""
    return [
        Post(
            PresenceChange(b"{}", f"u{n}", [], ["shared"]),
            users=("shared", *(f"f{n}-{number}" for number in range(friends))),
            watched=(f"u{n}",),
        )
        for n in range(people)
    ]


@pytest.mark.slow
async def test_other_work_goes_on_while_two_hundred_thousand_are_told(valkey: Valkey, keys: Keys) -> None:
    async with redis_client(valkey.url) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(users=["shared"])
        posts = people_with_friends(2_000, 98)
        sender = sender_of(redis, keys)
        async with longest_turn() as turn:
            entries = await sender.publish(posts)
        assert entries > 0
        assert turn[0] < TURN_MAX_S, turn
        await a.until(lambda: len(a.got) == len(posts))
        assert [change.user_id for change in a.got if isinstance(change, PresenceChange)] == [
            f"u{n}" for n in range(len(posts))
        ]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "ADDRESSES_MAX", 3)
    monkeypatch.setattr(publisher_module, "RETRY_S", 0.02)
    monkeypatch.setattr(publisher_module, "KEEP_S", 0.05)


@pytest.mark.usefixtures("few")
async def test_parts_are_in_order_and_lack_nothing(redis: Redis, keys: Keys) -> None:
    pod = BusPod(redis, keys, "a")
    await pod.start("c", "d")
    posts = [event("cd"[seq % 2], seq) for seq in range(20)]
    posts[7:7] = people_with_friends(2, 9)
    sender = sender_of(redis, keys)
    await asyncio.gather(*(sender.publish(call) for call in (posts[:5], posts[5:9], posts[9:])))
    assert [one.seq for one in await pod.received() if isinstance(one, EventEnvelope)] == list(range(20))


@pytest.mark.usefixtures("few")
async def test_each_call_is_told_what_of_its_own_did_not_go_out(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as redis:
        await BusPod(redis, keys, "a").start("c")
        await execute(redis, [("CONFIG", "SET", "maxmemory", 1)])
        # Only what somebody is there for is written, and so refused.
        calls = [
            [event(channel, seq) for seq, channel in enumerate(channels)]
            for channels in ("xxc", "xxxxx", "cxxxc")
        ]
        sender = sender_of(redis, keys)
        outcomes = await asyncio.gather(*(sender.publish(call) for call in calls), return_exceptions=True)
        assert [one.posts if isinstance(one, NotPublished) else one for one in outcomes] == [
            [calls[0][2]],
            0,
            [calls[2][0], calls[2][4]],
        ]


@pytest.mark.usefixtures("few")
async def test_a_publisher_pays_what_it_owes_in_parts_and_forgets_no_intent(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as redis:
        pod = BusPod(redis, keys, "a")
        channels = [f"c{n}" for n in range(20)]
        await pod.start(*channels)
        intents = Intents(redis, keys, "p")
        publisher = Publisher(Bus(redis, keys, Routes(redis, keys, ""), ""), intents)
        publisher.start()
        await execute(redis, [("CONFIG", "SET", "maxmemory", 1)])
        publisher.begin(channels)
        publisher.publish([event(channel, 1) for channel in channels])

        async def all_are_owed() -> bool:
            return len(publisher._owed_channels) == len(channels)

        async def is_done() -> bool:
            return not publisher.degraded and await intents.noted("p") == {}

        await eventually(all_are_owed)
        await execute(redis, [("CONFIG", "SET", "maxmemory", 0)])
        publisher.begin(channels)
        publisher.publish([event(channel, 2) for channel in channels])
        await eventually(is_done)
        got = await pod.received()
        assert {one.channel_ids[0] for one in got if isinstance(one, Poke)} == set(channels)
        assert [one.channel_id for one in got if isinstance(one, EventEnvelope) and one.seq == 2] == channels
        await publisher.aclose()
