"""A primary dies, stands still, or hands over: calls fail as one catalogued error until another has its place, and
then work by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import pytest
from redis.exceptions import ResponseError
from support.bus_reader import event, pods, sender_of
from support.proxy import proxy_to
from support.redis_servers import (
    REDIS_7,
    SERVICE,
    VALKEY,
    ClusterServers,
    Sentinels,
    cluster_servers,
    one_server,
    sentinels,
    until,
)
from support.valkey import eventually, free_port, redis_client

from chatkernel.bus import Bus, GapReason
from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_cluster import slot_of

pytestmark = pytest.mark.slow

FAILOVER_S = 20.0
"""The slowest that a failover may be on a busy machine; usually two or three seconds."""


@pytest.fixture
def watched() -> Iterator[Sentinels]:
    with sentinels(VALKEY) as servers:
        yield servers


@pytest.fixture
def nodes() -> Iterator[ClusterServers]:
    with cluster_servers(REDIS_7 or VALKEY) as servers:
        yield servers


async def works_again(redis: Redis, key: str, within_s: float = FAILOVER_S) -> None:
    """Until then nothing but REDIS_UNAVAILABLE, and never for longer than a time-out."""

    async def works() -> bool:
        try:
            async with asyncio.timeout(3.5):
                await execute(redis, [("SET", key, "written after")])
        except ChatError as error:
            assert error.code is Code.REDIS_UNAVAILABLE
            return False
        return await execute(redis, [("GET", key)]) == [b"written after"]

    await eventually(works, within_s)


async def arrives(bus: Bus, seq: int) -> None:
    """Published as often as it takes: what was sent into a failover may be lost with the old primary."""

    async def published() -> bool:
        with suppress(ChatError):
            return await bus.publish([event("c", seq)]) == 1
        return False

    await eventually(published, FAILOVER_S)


async def test_the_primary_is_killed_and_the_replica_takes_its_place(watched: Sentinels, keys: Keys) -> None:
    key = keys.limit("k")
    async with redis_client(watched.url) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = sender_of(redis, keys)
        await execute(redis, [("SET", key, "before"), ("GET", key)])
        old = watched.primary()
        until(lambda: old.do("WAIT", 1, 1_000) == 1)
        old.kill()
        with pytest.raises(ChatError) as caught:
            await execute(redis, [("GET", key)])
        assert caught.value.code is Code.REDIS_UNAVAILABLE
        await works_again(redis, key)
        assert watched.primary().port != old.port
        await a.until(lambda: bool(a.gaps), FAILOVER_S)
        await arrives(sender, 1)
        await a.until(lambda: bool(a.got), FAILOVER_S)
        assert a.gaps[-1] in (GapReason.RECONNECTED, GapReason.VANISHED)


@pytest.mark.slow
async def test_a_killed_primary_that_comes_back_misleads_nobody(watched: Sentinels, keys: Keys) -> None:
    key = keys.limit("k")
    async with redis_client(watched.url) as redis:
        old = watched.primary()
        old.kill()
        await works_again(redis, key)
        old.start()
        until(lambda: old.do("ROLE")[0] == b"slave", 3 * FAILOVER_S)
        async with redis_client(watched.url) as another:
            await execute(another, [("SET", key, "later")])
            assert await execute(redis, [("GET", key)]) == [b"later"]


@pytest.mark.slow
async def test_a_primary_that_stands_still_is_left_for_the_new_one(watched: Sentinels, keys: Keys) -> None:
    key = keys.limit("k")
    async with redis_client(watched.url) as redis:
        await execute(redis, [("SET", key, "before")])
        old = watched.primary()
        old.freeze()
        try:
            await works_again(redis, key)
        finally:
            old.thaw()
        assert await execute(redis, [("GET", key)]) == [b"written after"]


@pytest.mark.slow
def _hands_over(watched: Sentinels) -> bool:
    """A Sentinel that has not asked the replica lately gives nothing to it."""
    try:
        watched.sentinels[0].do("SENTINEL", "FAILOVER", SERVICE)
    except ResponseError as refused:
        assert "NOGOODSLAVE" in str(refused)
        return False
    return True


async def test_a_primary_that_hands_over_is_left_when_it_follows_the_new_one(
    watched: Sentinels, keys: Keys
) -> None:
    key = keys.limit("k")
    async with redis_client(watched.url) as redis:
        await execute(redis, [("SET", key, "before")])
        old = watched.primary()
        until(lambda: _hands_over(watched), FAILOVER_S)
        until(lambda: old.do("ROLE")[0] == b"slave", FAILOVER_S)
        await works_again(redis, key)
        assert watched.primary().do("GET", key) == b"written after"


async def test_sentinels_that_are_away_or_hang_are_done_without(watched: Sentinels, keys: Keys) -> None:
    dead, hanging, _ = watched.sentinels
    dead.kill()
    hanging.freeze()
    try:
        async with redis_client(watched.url) as redis:
            await works_again(redis, keys.limit("k"), 5.0)
    finally:
        hanging.thaw()
    nowhere = watched.url.replace(f"/{SERVICE}/", "/another/")
    async with redis_client(nowhere) as redis:
        with pytest.raises(ChatError) as caught:
            await execute(redis, [("PING",)])
        assert caught.value.code is Code.REDIS_UNAVAILABLE


async def test_a_server_that_was_told_to_follow_another_is_connected_to_anew(keys: Keys) -> None:
    """Somebody moved the name to another server, or will move the role back: the old connection knows nothing."""
    with one_server() as server:
        async with redis_client(f"redis://127.0.0.1:{server.port}") as redis:
            (first,) = await execute(redis, [("CLIENT", "ID")])
            server.do("REPLICAOF", "127.0.0.1", free_port())
            with pytest.raises(ChatError):
                await execute(redis, [("SET", keys.limit("k"), 1)])
            server.do("REPLICAOF", "NO", "ONE")
            (second, _) = await execute(redis, [("CLIENT", "ID"), ("SET", keys.limit("k"), 1)])
            assert second != first


async def test_a_node_of_a_cluster_is_killed_and_the_others_go_on(nodes: ClusterServers, keys: Keys) -> None:
    async with redis_client(nodes.url) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = sender_of(redis, keys)
        await sender.publish([event("c", 0)])
        await a.until(lambda: len(a.got) == 1)
        lost = nodes.owner_of(slot_of(keys.stream("a")))
        theirs = next(
            key
            for key in (keys.limit(f"n{n}") for n in range(1_000))
            if nodes.owner_of(slot_of(key)).port != lost.port
        )
        until(lambda: lost.do("WAIT", 1, 1_000) == 1)
        lost.kill()
        await execute(redis, [("SET", theirs, 1)])
        with pytest.raises(ChatError) as caught:
            await execute(redis, [("PING",)])
        assert caught.value.code is Code.REDIS_UNAVAILABLE
        await works_again(redis, keys.stream("a") + ":k")
        await a.until(lambda: bool(a.gaps), FAILOVER_S)
        await arrives(sender, 1)
        await a.until(lambda: len(a.got) == 2, FAILOVER_S)
        assert nodes.owner_of(slot_of(keys.stream("a"))).port != lost.port
        # Everything that is asked of all nodes works again, too.
        assert (await execute(redis, [("PING",)])) == [b"PONG"]


@pytest.mark.slow
async def test_a_node_that_stands_still_is_left_for_its_replica(nodes: ClusterServers, keys: Keys) -> None:
    key = keys.limit("k")
    async with redis_client(nodes.url) as redis:
        await execute(redis, [("SET", key, "before")])
        old = nodes.owner_of(slot_of(key))
        old.freeze()
        try:
            await works_again(redis, key)
        finally:
            old.thaw()
        until(lambda: old.raw("ROLE")[0] == b"slave", FAILOVER_S)
        assert await execute(redis, [("GET", key)]) == [b"written after"]


async def test_a_node_that_hands_over_costs_no_call(nodes: ClusterServers, keys: Keys) -> None:
    key = keys.limit("k")
    async with redis_client(nodes.url) as redis:
        await execute(redis, [("SET", key, 0)])
        old = nodes.owner_of(slot_of(key))
        replica = nodes.replicas[nodes.primaries.index(old)]
        done = asyncio.Event()

        async def count() -> int:
            number = 0
            while not (done.is_set() and nodes.owner_of(slot_of(key)).port == replica.port):
                number += 1
                assert await execute(redis, [("INCR", key)]) == [number]
            return number

        counting = asyncio.create_task(count())
        await asyncio.to_thread(replica.do, "CLUSTER", "FAILOVER")
        done.set()
        assert await counting > 0
        assert replica.do("GET", key) is not None


async def test_sentinels_that_are_far_away_are_waited_for(watched: Sentinels, keys: Keys) -> None:
    """To connect and to ask takes several round trips, and these take longer than all Sentinels are waited for."""
    async with AsyncExitStack() as stack:
        ports = [server.port for server in watched.sentinels]
        far = [await stack.enter_async_context(proxy_to(port, 0.3)) for port in ports]
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in far)
        redis = await stack.enter_async_context(redis_client(f"redis+sentinel://{hosts}/{SERVICE}/0"))
        assert await execute(redis, [("SET", keys.limit("far"), 1)]) == [b"OK"]
