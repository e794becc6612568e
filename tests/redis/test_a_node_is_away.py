"""A node of a cluster is away, or comes back empty: what lies on the others goes on, and what it lost is written
again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from support.bus_reader import Pod, event, pods
from support.redis_servers import VALKEY, ClusterServers, Server, cluster_servers, until
from support.valkey import Valkey, eventually, redis_client

from chatkernel import bus as bus_module
from chatkernel import routes as routes_module
from chatkernel.bus import Bus, ChannelFrame, EventEnvelope, NotPublished, Poke, Post
from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.presence import DOUBT_HEARTBEATS, PresenceStore
from chatkernel.protocol import PresenceState
from chatkernel.publisher import Publisher
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_cluster import slot_of
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings

ONLINE, OFFLINE, UNKNOWN = PresenceState.ONLINE, PresenceState.OFFLINE, PresenceState.UNKNOWN
LEASE_S = 0.05


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterServers]:
    """Three primaries without replicas: for long nobody takes a lost one's place, and the others answer."""
    options = {"cluster-node-timeout": 15_000, "cluster-require-full-coverage": "no"}
    with cluster_servers(VALKEY, replicas=0, options=options) as servers:
        yield servers


@pytest.fixture
async def redis(nodes: ClusterServers) -> AsyncIterator[Redis]:
    async with redis_client(nodes.url) as client:
        yield client


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "BLOCK_MS", 40)
    monkeypatch.setattr(routes_module, "AUDIT_INTERVAL_S", 0.05)
    monkeypatch.setattr(routes_module, "RETRY_S", 0.05)


def started_again(node: Server) -> None:
    node.start()
    until(lambda: b"cluster_state:ok" in node.raw("CLUSTER", "INFO"))


class Places:
    """Names that lie on one node, the victim, and names that do not."""

    def __init__(self, nodes: ClusterServers, keys: Keys, pod: str = "a") -> None:
        self._nodes, self._keys = nodes, keys
        stream, registry = (self._node(key) for key in (keys.stream(pod), keys.registry))
        self.victim = next(node for node in nodes.primaries if node not in (stream, registry))

    def _node(self, key: str) -> Server:
        return self._nodes.owner_of(slot_of(key))

    def _first(self, key_of: Callable[[str], str], *, on_victim: bool) -> str:
        names = (f"n{number}" for number in range(1_000))
        return next(name for name in names if (self._node(key_of(name)) is self.victim) == on_victim)

    def channel(self, *, on_victim: bool) -> str:
        return self._first(lambda name: self._keys.route(f"c:{name}"), on_victim=on_victim)

    def user(self, *, on_victim: bool) -> str:
        return self._first(self._keys.presence_user, on_victim=on_victim)


@asynccontextmanager
async def publishing(redis: Redis, keys: Keys) -> AsyncIterator[Publisher]:
    publisher = Publisher(Bus(redis, keys, Routes(redis, keys, ""), ""), None)
    publisher.start()
    yield publisher
    await publisher.aclose()


def heard(pod: Pod, channel: str) -> list[int]:
    return [e.seq for e in pod.got if isinstance(e, EventEnvelope) and e.channel_id == channel]


@pytest.mark.slow
async def test_messages_of_other_nodes_are_delivered_while_one_hangs(
    nodes: ClusterServers, redis: Redis, keys: Keys
) -> None:
    places = Places(nodes, keys)
    there, elsewhere = places.channel(on_victim=True), places.channel(on_victim=False)
    async with pods(redis, keys, "a") as (a,), redis_client(nodes.url) as other:
        await a.routes.add(channels=[there, elsewhere])
        async with publishing(other, keys) as publisher:
            publisher.publish([event(there, 1), event(elsewhere, 1)])
            await a.until(lambda: len(a.got) == 2)
            places.victim.freeze()
            try:
                publisher.publish([event(there, 2)])
                publisher.publish([event(elsewhere, 2)])
                # Once a time-out; from then on the others do not wait for it.
                await a.until(lambda: heard(a, elsewhere) == [1, 2])
                for seq in range(3, 8):
                    publisher.publish([event(there, seq), event(elsewhere, seq)])
                    await a.until(lambda: heard(a, elsewhere)[-1] == seq, 0.5)  # noqa: B023 - called at once
                assert publisher.degraded
            finally:
                places.victim.thaw()
            await a.until(lambda: Poke([there]) in a.got)
            await eventually(lambda: is_well(publisher))


async def is_well(publisher: Publisher) -> bool:
    return not publisher.degraded


@pytest.mark.slow
async def test_what_did_not_go_out_is_told_post_by_post(
    nodes: ClusterServers, redis: Redis, keys: Keys
) -> None:
    places = Places(nodes, keys)
    there, elsewhere = places.channel(on_victim=True), places.channel(on_victim=False)
    routes = Routes(redis, keys, "a")
    bus = Bus(redis, keys, Routes(redis, keys, ""), "")
    await Bus(redis, keys, routes, "a").open()
    await routes.add(channels=[there, elsewhere])
    posts = [event(there, 1), event(elsewhere, 1), Post(ChannelFrame(there, b"{}"), (there, elsewhere))]
    places.victim.kill()
    try:
        with pytest.raises(NotPublished) as caught:
            await bus.publish(posts)
        assert caught.value.posts == [posts[0], posts[2]]
        (length,) = await execute(redis, [("XLEN", keys.stream("a"))])
        assert length == 2  # the first, and what was known to be for it
    finally:
        started_again(places.victim)


@pytest.mark.slow
async def test_presence_is_unknown_of_the_people_of_the_node_alone(
    nodes: ClusterServers, redis: Redis, keys: Keys
) -> None:
    places = Places(nodes, keys)
    settings = PresenceSettings(heartbeat_interval_s=0.1, offline_after_s=LEASE_S)
    presence = PresenceStore(redis, keys, settings)
    lasting = PresenceStore(redis, keys, PresenceSettings())
    there, elsewhere = places.user(on_victim=True), places.user(on_victim=False)
    gone = next(f"g{n}" for n in range(999) if keys.presence_shard(f"g{n}") == keys.presence_shard(elsewhere))
    await presence.beat([(gone, "d")])
    await lasting.beat([(there, "d")])
    # Marks the shards; and until what is younger than that is not in doubt.
    await lasting.sweep(64)
    await asyncio.sleep(0.1 * DOUBT_HEARTBEATS)
    places.victim.kill()
    try:
        beats = await lasting.beat([(there, "d"), (elsewhere, "d")])
        assert (beats.came, beats.failed) == ([elsewhere], [there])
        states = await presence.states([there, elsewhere, gone])
        assert [entry.state for entry in states] == [UNKNOWN, ONLINE, OFFLINE]
        assert [user for user, _ in await presence.sweep(1_600)] == [gone]
        with pytest.raises(ChatError):
            await lasting.beat([(there, "d")])
        with pytest.raises(ChatError):
            await presence.states([there])
    finally:
        started_again(places.victim)
    # It may only not have been written yet.
    assert [entry.state for entry in await presence.states([there, gone])] == [UNKNOWN, OFFLINE]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", ["emptied", pytest.param("restarted", marks=pytest.mark.slow)])
async def test_routes_on_a_node_that_lost_them_are_written_again(
    nodes: ClusterServers, redis: Redis, keys: Keys, how: str
) -> None:
    """The pod's stream and the registry are on others: nothing else tells it."""
    places = Places(nodes, keys)
    there, told = places.channel(on_victim=True), asyncio.Event()
    async with pods(redis, keys, "a") as (a,), redis_client(nodes.url) as other:
        await a.routes.add(channels=[there, *[f"c{number}" for number in range(300)]])
        keeping = asyncio.create_task(a.routes.keep(told.set))
        if how == "emptied":
            places.victim.do("FLUSHALL")
        else:
            places.victim.kill()
            await asyncio.to_thread(started_again, places.victim)
        sender = Bus(other, keys, Routes(other, keys, ""), "")

        async def arrives() -> bool:
            try:
                return await sender.publish([event(there, 1)]) == 1
            except ChatError:
                return False

        await eventually(arrives)
        async with asyncio.timeout(5):
            await told.wait()
        found = await a.routes.resolve([there, *[f"c{number}" for number in range(300)]])
        assert found == [{"a"}] * 301
        assert a.gaps == []
        keeping.cancel()


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
async def test_routes_of_a_node_that_is_away_hold_up_no_others(
    nodes: ClusterServers, redis: Redis, keys: Keys
) -> None:
    places = Places(nodes, keys)
    there, elsewhere = places.channel(on_victim=True), places.channel(on_victim=False)
    routes = Routes(redis, keys, "a")
    places.victim.kill()
    try:
        with pytest.raises(ChatError):
            await routes.add(channels=[there])
        await routes.add(channels=[elsewhere])
        await routes.reassert()
        assert await routes.resolve([elsewhere]) == [{"a"}]
    finally:
        started_again(places.victim)

    async def written() -> bool:
        return await routes.resolve([there]) == [{"a"}]

    await eventually(written)
    await routes.aclose()


async def test_a_route_that_a_failover_may_have_lost_is_written_when_the_connection_was(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client, redis_client(own_valkey.url) as other:
        routes = Routes(client, keys, "a")
        await routes.add(channels=[f"c{number}" for number in range(500)])
        assert not await routes.audit()
        lost = next(f"c{number}" for number in range(500) if f"c:c{number}" not in routes._to_audit[-100:])
        await execute(other, [("SREM", keys.route(f"c:{lost}"), "a")])
        assert not await routes.audit()
        (number,) = await execute(client, [("CLIENT", "ID")])
        await execute(other, [("CLIENT", "KILL", "ID", number)])

        async def lost_it() -> bool:
            return client.losses == 1

        await eventually(lost_it)
        assert await routes.audit()
        assert await routes.resolve([lost]) == [{"a"}]
        assert not await routes.audit()


def test_discovery_marks_lie_with_the_registry(keys: Keys) -> None:
    assert slot_of(keys.discovery_mark("api-1", "x")) == slot_of(keys.registry)
