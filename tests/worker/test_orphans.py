"""Intents of services without a lease."""

from __future__ import annotations

import asyncio

import pytest
from support.bus_pod import BusPod
from support.valkey import eventually

from chatkernel import bus
from chatkernel.bus import STREAM_KEPT_S, Bus, Poke
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from worker.orphans import Orphans


def orphans_of(redis: Redis, keys: Keys) -> Orphans:
    routes = Routes(redis, keys, "")
    return Orphans(Registry(redis, keys), Intents(redis, keys, ""), Bus(redis, keys, routes, ""), routes)


async def test_an_intent_that_stands_through_two_looks_is_poked_once(redis: Redis, keys: Keys) -> None:
    pod = BusPod(redis, keys, "chat")
    await pod.start("c1", "c2")
    api = Intents(redis, keys, "api")
    await api.begin(["c1", "c2"])
    orphans = orphans_of(redis, keys)
    await orphans.step()
    await api.done(["c2"])
    await api.begin(["c3"])
    assert await pod.received() == []
    await orphans.step()
    assert await pod.received() == [Poke(["c1"])]
    await api.done(["c3"])
    for _ in range(3):
        await orphans.step()
    assert await pod.received() == [Poke(["c1"])]
    assert orphans.poked == 1
    assert await api.owners() == []


async def test_an_intent_that_is_noted_again_is_in_use(redis: Redis, keys: Keys) -> None:
    pod = BusPod(redis, keys, "chat")
    await pod.start("c")
    api = Intents(redis, keys, "api")
    orphans = orphans_of(redis, keys)
    for _ in range(3):
        before = await api.noted("api")
        while await api.noted("api") == before:
            await api.begin(["c"])
        await orphans.step()
    assert await pod.received() == []
    await orphans.step()
    assert await pod.received() == [Poke(["c"])]


async def test_a_chat_pods_intents_are_left_to_its_lease(redis: Redis, keys: Keys) -> None:
    pod, other = BusPod(redis, keys, "chat"), BusPod(redis, keys, "other")
    await pod.start("c")
    await other.start("c")
    await pod.intents.begin(["c"])
    orphans = orphans_of(redis, keys)
    for _ in range(3):
        await orphans.step()
    assert await other.received() == []
    assert await pod.intents.take("chat") == ["c"]


async def test_what_a_pod_left_that_never_registered_is_cleared_away_when_its_stream_has_gone(
    redis: Redis, keys: Keys
) -> None:
    pod = BusPod(redis, keys, "chat")
    await pod.bus.open()
    await pod.routes.reassert()
    await pod.routes.add(channels=["c"], users=["u"])
    (kept_s,) = await execute(redis, [("TTL", keys.stream("chat"))])
    assert 0 < kept_s <= STREAM_KEPT_S
    orphans = orphans_of(redis, keys)
    for _ in range(3):
        await orphans.step()
    assert await pod.routes.resolve(["c"], ["u"]) == [{"chat"}] * 2  # it may only be slow
    await execute(redis, [("UNLINK", keys.stream("chat"))])
    for _ in range(2):
        await orphans.step()
    assert await execute(redis, [("KEYS", f"{keys.base}*")]) == [[]]


async def test_a_stream_that_is_read_stays(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "BLOCK_MS", 20)
    pod, stop = BusPod(redis, keys, "chat"), asyncio.Event()
    await pod.bus.open()
    await execute(redis, [("EXPIRE", keys.stream("chat"), 1)])
    reading = asyncio.ensure_future(anext(pod.bus.read(stop)))

    async def renewed() -> bool:
        return (await execute(redis, [("TTL", keys.stream("chat"))]))[0] > 1

    await eventually(renewed)
    reading.cancel()
