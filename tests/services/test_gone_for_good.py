"""A pod that was frozen, removed for good, and thawed: a node that was cut off and is back."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest
from support.services import Service, Shore
from support.tickets import moves, socket_at
from support.valkey import eventually, redis_client

from chatkernel.errors import RESUMABLE, Close
from chatkernel.registry import Registry

pytestmark = pytest.mark.slow

LEASE_S = 1.0
ENDED = 70


@pytest.fixture
async def registry(ground: Shore) -> AsyncIterator[Registry]:
    async with redis_client(ground.valkey.url) as redis:
        yield Registry(redis, ground.keys)


async def started(ground: Shore) -> Service:
    return await ground.chat_pod("talk-chat-1", lease_s=LEASE_S, lease_renew_s=0.2).started()


async def names(registry: Registry) -> list[str]:
    snapshot = await registry.snapshot()
    return [entry.name for entry in (*snapshot.entries, *snapshot.expired)]


async def test_a_pod_that_comes_back_from_the_dead_ends_itself(ground: Shore, registry: Registry) -> None:
    pod = await started(ground)
    client = await socket_at(ground, pod)
    pod.signal(signal.SIGSTOP)
    assert await registry.remove(pod.name, for_good=True)
    pod.signal(signal.SIGCONT)
    assert await pod.ended(5) == ENDED
    assert Close(await client.closed()) in RESUMABLE
    assert "this pod was removed for good, and ends" in pod.events()
    assert await names(registry) == []


async def test_so_does_one_that_went_on_and_only_could_not_reach_redis(
    ground: Shore, registry: Registry
) -> None:
    pod = await started(ground)
    client = await socket_at(ground, pod)
    await registry.remove(pod.name, for_good=True)
    assert await pod.ended(5) == ENDED
    assert Close(await client.closed()) in RESUMABLE


async def test_a_new_process_of_that_name_ends_too(ground: Shore, registry: Registry) -> None:
    await registry.remove("talk-chat-1", for_good=True)
    pod = ground.chat_pod("talk-chat-1", lease_s=LEASE_S)
    assert await pod.ended(20) == ENDED
    assert await names(registry) == []


async def test_one_that_drains_finishes_that_first(ground: Shore, registry: Registry) -> None:
    """It was deleted while its clients were on their way: none is cut off for that."""
    pod = await started(ground)
    client = await socket_at(ground, pod)
    pod.signal(signal.SIGTERM)
    await client.until(moves)
    await registry.remove(pod.name, for_good=True)

    async def noticed() -> bool:
        return "this pod was removed for good, and ends" in pod.events()

    await eventually(noticed)
    assert (await client.ask("ping"))["type"] == "pong"
    await client.close()
    assert await pod.ended(5) in (0, ENDED)
