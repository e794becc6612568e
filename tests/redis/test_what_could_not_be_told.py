"""What could not go out over the bus: what is owed, what is not, and when a pod says that the bus is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.bus_pod import BusPod
from support.valkey import Valkey, eventually, redis_client

from chatkernel import intents as intents_module
from chatkernel import publisher as publisher_module
from chatkernel.bus import Bus, ChannelFrame, EventEnvelope, Poke, Post, PresenceChange
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.publisher import Publisher
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_link import Command
from chatkernel.routes import Routes

TYPING = Post(ChannelFrame("c", b"{}"), ("c",))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "RETRY_S", 0.02)
    monkeypatch.setattr(publisher_module, "KEEP_S", 0.05)
    monkeypatch.setattr(intents_module, "KEEP_S", 0.05)
    monkeypatch.setattr(intents_module, "FAILED_S", 0.1)


@asynccontextmanager
async def publishing(redis: Redis, keys: Keys) -> AsyncIterator[Publisher]:
    bus = Bus(redis, keys, Routes(redis, keys, ""), "")
    publisher = Publisher(bus, Intents(redis, keys, "p"))
    publisher.start()
    yield publisher
    await publisher.aclose()


async def full(redis: Redis, is_full: bool) -> None:
    await execute(redis, [("CONFIG", "SET", "maxmemory", int(is_full))])


def presence(state: bytes) -> Post:
    return Post(PresenceChange(state, "u", ["c"], []), ("c",))


async def degraded(publisher: Publisher) -> None:
    async def is_degraded() -> bool:
        return publisher.degraded

    await eventually(is_degraded)


async def well(publisher: Publisher) -> None:
    async def is_well() -> bool:
        return not publisher.degraded

    await eventually(is_well)


async def test_the_bus_is_back_when_redis_says_so_though_what_failed_is_not_worth_sending_again(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client, publishing(client, keys) as publisher:
        own_valkey.kill()
        publisher.publish([TYPING])
        await degraded(publisher)
        asked: list[int] = []
        call = client.call

        async def counted(commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
            asked.append(len(commands))
            return await call(commands, timeout_s, waiting=waiting)

        client.call = counted

        async def asked_often() -> bool:
            return len(asked) > 5

        await eventually(asked_often)
        assert publisher.degraded
        own_valkey.start()
        await well(publisher)


async def test_messages_and_who_came_are_owed_and_typing_is_not(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client, publishing(client, keys) as publisher:
        pod = BusPod(client, keys, "a")
        await pod.start("c")
        await full(client, True)
        publisher.publish([Post(EventEnvelope("c", 1, b"{}", False), ("c",)), TYPING, presence(b"online")])
        await degraded(publisher)
        assert await pod.received() == []
        await full(client, False)
        await well(publisher)
        assert sorted(await pod.received(), key=str) == sorted(
            [Poke(["c"]), presence(b"online").envelope], key=str
        )


async def test_the_last_word_on_a_person_is_the_last_that_was_said(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client, publishing(client, keys) as publisher:
        pod = BusPod(client, keys, "a")
        await pod.start("c")
        await full(client, True)
        publisher.publish([presence(b"online")])
        await degraded(publisher)
        publisher.publish([presence(b"offline")])
        await asyncio.sleep(0)
        await full(client, False)
        await well(publisher)
        assert (await pod.received())[-1] == presence(b"offline").envelope


async def test_a_channel_whose_append_failed_is_looked_at_once_and_struck_off(
    own_valkey: Valkey, keys: Keys
) -> None:
    """Nobody knows whether it was stored, and nobody tries again."""
    async with redis_client(own_valkey.url) as client, publishing(client, keys) as publisher:
        pod = BusPod(client, keys, "a")
        await pod.start("c")
        publisher.begin(["c"])

        async def noted() -> bool:
            return await pod.intents.take("p") == ["c"]

        await eventually(noted)

        async def struck() -> bool:
            return await pod.intents.take("p") == []

        await eventually(struck)
        assert await pod.received() == [Poke(["c"])]
