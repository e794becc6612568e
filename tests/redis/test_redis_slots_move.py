"""Slots of a cluster move from node to node while they are used: callers do not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from support.bus_reader import event, pods, sender_of
from support.redis_servers import VALKEY, ClusterServers, Server, cluster_servers
from support.valkey import redis_client

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_cluster import slot_of


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Two primaries without replicas: the tests move slots to and fro."""
    with cluster_servers(VALKEY, primaries=2, replicas=0) as servers:
        yield servers


@pytest.fixture
async def redis(nodes: ClusterServers) -> AsyncIterator[Redis]:
    async with redis_client(nodes.url) as client:
        yield client


def of_one_slot(keys: Keys, name: object) -> str:
    """A key of a slot that no other test has keys in."""
    return keys.limit(f"{{{keys.base}}}{name}")


class Move:
    """One slot on its way from its owner to the other node."""

    def __init__(self, nodes: ClusterServers, slot: int) -> None:
        self.slot, self.source = slot, nodes.owner_of(slot)
        (self.target,) = (node for node in nodes.nodes if node is not self.source)
        self._ids = {node.port: node.raw("CLUSTER", "MYID").decode() for node in nodes.nodes}

    def begin(self) -> None:
        self.target.do("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._id(self.source))
        self.source.do("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._id(self.target))

    def keys_over(self, *names: str) -> None:
        self.source.do("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5_000, "KEYS", *names)

    def end(self) -> None:
        for node in (self.target, self.source):
            node.do("CLUSTER", "SETSLOT", self.slot, "NODE", self._id(self.target))

    def _id(self, node: Server) -> str:
        return self._ids[node.port]


async def test_a_slot_that_has_moved_is_found(redis: Redis, nodes: ClusterServers, keys: Keys) -> None:
    names = [of_one_slot(keys, n) for n in range(20)]
    await execute(redis, [("SET", name, 1) for name in names])
    move = Move(nodes, slot_of(names[0]))
    move.begin()
    move.keys_over(*names)
    move.end()
    assert await execute(redis, [("INCR", name) for name in names for _ in range(2)]) == [2, 3] * 20


async def test_keys_on_their_way_are_found_where_they_are(
    redis: Redis, nodes: ClusterServers, keys: Keys
) -> None:
    names = [of_one_slot(keys, n) for n in range(20)]
    await execute(redis, [("SET", name, 1) for name in names])
    move = Move(nodes, slot_of(names[0]))
    move.begin()
    move.keys_over(*names[::2])
    assert await execute(redis, [("INCR", name) for name in names]) == [2] * 20
    assert await execute(
        redis, [("SET", of_one_slot(keys, "new"), "x"), ("GET", of_one_slot(keys, "new"))]
    ) == [
        b"OK",
        b"x",
    ]
    move.keys_over(*names[1::2])
    move.end()
    assert await execute(redis, [("INCR", name) for name in names]) == [3] * 20


async def test_a_command_on_keys_of_which_some_are_on_their_way_waits_for_the_others(
    redis: Redis, nodes: ClusterServers, keys: Keys
) -> None:
    names = [of_one_slot(keys, n) for n in range(2)]
    await execute(redis, [("SET", name, 1) for name in names])
    move = Move(nodes, slot_of(names[0]))
    move.begin()
    move.keys_over(names[0])
    call = asyncio.create_task(execute(redis, [("EXISTS", *names)]))
    await asyncio.sleep(0.05)
    assert not call.done()
    move.keys_over(names[1])
    assert await call == [2]
    move.end()


async def test_one_whose_keys_stay_apart_fails_as_redis_does(
    redis: Redis, nodes: ClusterServers, keys: Keys
) -> None:
    names = [of_one_slot(keys, n) for n in range(2)]
    await execute(redis, [("SET", name, 1) for name in names])
    move = Move(nodes, slot_of(names[0]))
    move.begin()
    move.keys_over(names[0])
    with pytest.raises(ChatError):
        await execute(redis, [("EXISTS", *names)])
    move.keys_over(names[1])
    move.end()


async def test_a_pod_hears_everything_while_its_stream_moves(
    redis: Redis, nodes: ClusterServers, keys: Keys
) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender, stream = sender_of(redis, keys), keys.stream("a")
        move = Move(nodes, slot_of(stream))
        steps = {40: move.begin, 60: lambda: move.keys_over(stream, keys.pod_routes("a")), 80: move.end}
        for seq in range(120):
            if seq in steps:
                await asyncio.to_thread(steps[seq])
            assert await sender.publish([event("c", seq)]) == 1
        await a.until(lambda: len(a.got) == 120)
        assert [envelope.seq for envelope in a.got] == list(range(120))  # type: ignore[union-attr]
