"""SIGTERM: a chat pod moves its clients, takes its entry out and ends with 0; asked again, or without Redis, too."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator

import pytest
from support.services import Service, Shore
from support.tickets import moves, socket_at
from support.valkey import eventually, redis_client

from chatkernel.errors import RESUMABLE, Close
from chatkernel.registry import Registry
from chatkernel.settings import DrainSettings, LiveSettings

pytestmark = pytest.mark.slow

DEADLINE_S = 2.0


@pytest.fixture
async def registry(ground: Shore) -> AsyncIterator[Registry]:
    async with redis_client(ground.valkey.url) as redis:
        yield Registry(redis, ground.keys)


async def started(ground: Shore, deadline_s: float = DEADLINE_S) -> Service:
    live = LiveSettings(drain=DrainSettings(deadline_s=deadline_s))
    return await ground.chat_pod("talk-chat-1", live=live).started()


async def test_it_drains_takes_its_entry_out_and_ends_well(ground: Shore, registry: Registry) -> None:
    pod = await started(ground)
    goes, stays = [await socket_at(ground, pod) for _ in range(2)]
    begun = time.monotonic()
    pod.signal(signal.SIGTERM)
    await goes.until(moves)
    await stays.until(moves)

    async def seen() -> bool:
        return [entry.state for entry in (await registry.snapshot()).entries] == ["draining"]

    await eventually(seen)
    assert (await stays.ask("ping"))["type"] == "pong"  # it is served until it has moved
    await goes.close()
    assert await stays.closed() == Close.MIGRATED
    assert time.monotonic() - begun > DEADLINE_S * 0.9
    assert await pod.ended(5) == 0
    assert time.monotonic() - begun < DEADLINE_S + 5
    snapshot = await registry.snapshot()
    assert (snapshot.entries, snapshot.expired) == ([], [])


async def test_asked_again_it_ends_at_once(ground: Shore) -> None:
    pod = await started(ground, deadline_s=60)
    client = await socket_at(ground, pod)
    pod.signal(signal.SIGTERM)
    await client.until(moves)
    pod.signal(signal.SIGTERM)
    assert Close(await client.closed()) in RESUMABLE
    assert await pod.ended(4) == 0


async def test_it_ends_as_well_while_redis_is_away(ground: Shore) -> None:
    pod = await started(ground)
    client = await socket_at(ground, pod)
    ground.valkey.freeze()
    try:
        pod.signal(signal.SIGTERM)
        await client.until(moves)
        assert await client.closed() == Close.MIGRATED
        assert await pod.ended(8) == 0
    finally:
        ground.valkey.thaw()
    assert "registry entry left to expire" in pod.events()


@pytest.mark.parametrize("module", ["apipod.main", "worker.main"])
async def test_the_others_end_at_once(ground: Shore, module: str) -> None:
    service = await ground.start(module, "a").started()
    ground.valkey.freeze()
    try:
        service.signal(signal.SIGTERM)
        assert await service.ended(8) == 0
    finally:
        ground.valkey.thaw()
