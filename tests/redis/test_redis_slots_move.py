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
from chatkernel.presence import Beats, PresenceStore
from chatkernel.protocol import PresenceState
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_cluster import slot_of
from chatkernel.registry import PodEntry, PodState, Policy, Registry, RenewResult
from chatkernel.settings import PresenceSettings


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

    def all_over(self) -> None:
        """Take over what is left, and the slot."""
        count = self.source.do("CLUSTER", "COUNTKEYSINSLOT", self.slot)
        if names := self.source.do("CLUSTER", "GETKEYSINSLOT", self.slot, count):
            self.keys_over(*[name.decode() for name in names])
        self.end()

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


@pytest.fixture(params=["none", "some", "all"])
def moved(request: pytest.FixtureRequest) -> str:
    """Which of the keys of a slot have been taken over already."""
    return str(request.param)


def half_way(nodes: ClusterServers, slot: int, moved: str) -> Move:
    move = Move(nodes, slot)
    count = move.source.do("CLUSTER", "COUNTKEYSINSLOT", slot)
    names = [name.decode() for name in move.source.do("CLUSTER", "GETKEYSINSLOT", slot, count)]
    move.begin()
    if part := {"none": [], "some": names[::2], "all": names}[moved]:
        move.keys_over(*part)
    return move


async def test_the_registry_works_while_its_slot_moves(
    redis: Redis, nodes: ClusterServers, keys: Keys, moved: str
) -> None:
    registry = Registry(redis, keys)
    entry = PodEntry("a", "1", "ws://a", "l", "r", PodState.READY, 0, 9, 1)
    await registry.set_policy(Policy("r"))
    await registry.renew(entry, 60.0)
    move = half_way(nodes, slot_of(keys.registry), moved)
    try:
        assert await registry.renew(entry, 60.0) == RenewResult(ok=True, was_missing=False)
        snapshot = await registry.snapshot()
        assert [found.name for found in snapshot.entries] == ["a"] and snapshot.policy == Policy("r")
        assert await registry.remove("a")
        assert [found.name for found in await registry.departed()] == ["a"]
    finally:
        move.all_over()


async def test_the_presence_of_people_old_and_new_is_kept_while_their_slot_moves(
    redis: Redis, nodes: ClusterServers, keys: Keys, moved: str
) -> None:
    shard = keys.presence_shard("u0")
    users = [user for n in range(1_000) if keys.presence_shard(user := f"u{n}") == shard][:6]
    *known, new = users
    presence, quick = (PresenceStore(redis, keys, PresenceSettings(offline_after_s=s)) for s in (30.0, 0.001))
    await presence.beat([(user, "d") for user in known])
    await quick.beat([(known[0], "d")])
    move = half_way(nodes, slot_of(keys.presence_expiry(shard)), moved)
    try:
        assert (await presence.beat([(known[1], "d"), (new, "d")])) == Beats([new], [])
        assert [user for user, last in await presence.sweep(64) if last] == [known[0]]
        await presence.settle([known[0]])
        assert await presence.leave(known[1], "d")
        states = [entry.state for entry in await presence.states(users)]
        assert states == [PresenceState.OFFLINE] * 2 + [PresenceState.ONLINE] * 4
    finally:
        move.all_over()
    states = [entry.state for entry in await presence.states(users)]
    assert states == [PresenceState.OFFLINE] * 2 + [PresenceState.ONLINE] * 4


async def test_a_node_that_does_not_say_where_another_is_means_the_same_host(
    redis: Redis, nodes: ClusterServers, keys: Keys
) -> None:
    """`MOVED 7 ?:6381`, as where host names are preferred and none is told."""
    for node in nodes.nodes:
        node.do("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    try:
        names = [of_one_slot(keys, n) for n in range(2)]
        await execute(redis, [("SET", name, 1) for name in names])
        move = half_way(nodes, slot_of(names[0]), "some")
        assert await execute(redis, [("INCR", name) for name in names]) == [2, 2]
        move.all_over()
        assert await execute(redis, [("INCR", name) for name in names]) == [3, 3]
    finally:
        for node in nodes.nodes:
            node.do("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")
