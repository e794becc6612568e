"""One shard that is away keeps its own channels from being healed, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from support.cluster import eventually
from support.mongo.scripted import ScriptedServer
from support.mongo.shard_away import shard_away
from support.mongo.topology import mongos
from support.one_pod import Elsewhere, OnePod, Wire

from chatkernel.storage.mongo.store import MongoStore, open_mongo
from chatpod import healer
from chatpod.healer import Healer

pytestmark = pytest.mark.slow

INTERVAL_S = 0.2
TIMEOUT_MS = 4_000
ROOMS = [f"local_g{number:02}" for number in range(24)]


HEALTHY = ROOMS[1::2]


def is_away(value: str) -> bool:
    return value in ROOMS and value not in HEALTHY


@pytest.fixture
async def router() -> AsyncIterator[ScriptedServer]:
    async with mongos() as running:
        yield running


@pytest.fixture
async def store(router: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MongoStore]:
    monkeypatch.setattr(healer, "PATIENCE_S", 0.5)
    monkeypatch.setattr(healer, "RETRY_S", 0.1)
    opened = await open_mongo(f"{router.url}&timeoutMS={TIMEOUT_MS}")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@asynccontextmanager
async def healing(pod: OnePod, store: MongoStore) -> AsyncIterator[Healer]:
    """A healer with all its loops."""
    made = Healer(pod.hub, pod.opener, store, INTERVAL_S)
    loops = [made.run(), made.seek(), made.audit(), made.audit_people()]
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def missed_in_all(pod: OnePod, elsewhere: Elsewhere) -> Wire:
    for room in ROOMS:
        await elsewhere.group(room, "u_own", "u_eve")
    _, wire = await pod.came("u_eve")
    elsewhere.holding = True
    for room in ROOMS:
        await elsewhere.say(room, "missed")
    return wire


async def until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    async def look() -> bool:
        return condition()

    await eventually(look, within_s)


def healed(wire: Wire) -> list[str]:
    return [room for room in ROOMS if wire.texts(room)[:1] == ["missed"]]


async def test_healthy_channels_are_healed_and_the_others_when_it_is_back(
    router: ScriptedServer, store: MongoStore, pod: OnePod, elsewhere: Elsewhere
) -> None:
    wire = await missed_in_all(pod, elsewhere)
    hooked = router.on("*", shard_away(is_away))
    async with healing(pod, store) as looking:
        await until(lambda: healed(wire) == HEALTHY)
        assert looking.degraded
        hooked.remove()
        await until(lambda: healed(wire) == ROOMS)
        await until(lambda: not looking.degraded)


async def test_what_is_missed_meanwhile_waits_for_none_of_the_others(
    router: ScriptedServer, store: MongoStore, pod: OnePod, elsewhere: Elsewhere
) -> None:
    wire = await missed_in_all(pod, elsewhere)
    router.on("*", shard_away(is_away))
    async with healing(pod, store) as looking:
        await until(lambda: healed(wire) == HEALTHY)
        for number in range(5):
            await elsewhere.say(HEALTHY[0], f"missed {number}")
            looking.want(ROOMS)
            await until(lambda: wire.texts(HEALTHY[0])[-1] == f"missed {number}", TIMEOUT_MS / 1500)  # noqa: B023


async def test_a_store_that_is_away_as_a_whole_is_asked_little_at_a_time(
    router: ScriptedServer,
    store: MongoStore,
    pod: OnePod,
    elsewhere: Elsewhere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(healer, "PROBES", 4)
    wire = await missed_in_all(pod, elsewhere)
    hooked = router.on("*", shard_away(lambda _: True))

    def asked() -> list[str]:
        return [each["filter"]["channel_id"] for each in router.seen("find") if each["find"] == "events"]

    async with healing(pod, store) as looking:
        await until(lambda: looking.degraded)
        router.commands.clear()
        await until(lambda: set(asked()) == set(ROOMS))
        # Each in its turn, and nobody twice as often as another.
        assert len(asked()) < 2 * len(ROOMS)
        hooked.remove()
        await until(lambda: healed(wire) == ROOMS)
        await until(lambda: not looking.degraded)
