"""A server that was away, or handed over, between two questions: nobody saw a call fail, and what it holds may be old
all the same."""

from __future__ import annotations

import asyncio

import pytest
from support.redis_servers import ClusterServers, Server, cluster_servers, one_server, until
from support.valkey import Valkey, eventually, free_port, redis_client

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.protocol import PresenceState
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_cluster import slot_of
from chatkernel.settings import PresenceSettings

ONLINE, OFFLINE, UNKNOWN = PresenceState.ONLINE, PresenceState.OFFLINE, PresenceState.UNKNOWN
LEASE_S = 0.3
HEARTBEAT_S = 40.0
"""So long that what happens in a test is recent, on however slow a machine."""


def store(redis: Redis, keys: Keys, lease_s: float = LEASE_S) -> PresenceStore:
    return PresenceStore(redis, keys, PresenceSettings(HEARTBEAT_S, lease_s))


async def state_of(presence: PresenceStore, user: str) -> PresenceState:
    return (await presence.states([user]))[0].state


async def lost(redis: Redis, at_least: int = 1) -> None:
    async def noticed() -> bool:
        return redis.losses >= at_least

    await eventually(noticed)


async def test_old_leases_of_a_server_that_was_restarted_between_two_calls_are_not_believed(
    keys: Keys,
) -> None:
    with one_server() as server:
        async with redis_client(f"redis://127.0.0.1:{server.port}") as redis:
            presence = store(redis, keys)
            await presence.sweep(64)
            await presence.beat([("u", "d")])
            server.do("SAVE")
            await asyncio.sleep(LEASE_S)
            await store(redis, keys, 600.0).beat([("u", "d")])
            assert await state_of(presence, "u") is ONLINE
            server.kill()
            server.start()
            await asyncio.to_thread(until, server.answers)
            await lost(redis)
            assert await state_of(presence, "u") is UNKNOWN
            assert await presence.sweep(64) == []


async def test_who_is_not_there_is_unknown_after_the_connection_was_lost_between_two_calls(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as redis, redis_client(own_valkey.url) as other:
        presence = store(redis, keys)
        assert await state_of(presence, "u") is OFFLINE
        (number,) = await execute(redis, [("CLIENT", "ID")])
        await execute(other, [("CLIENT", "KILL", "ID", number)])
        await lost(redis)
        assert await state_of(presence, "u") is UNKNOWN
        assert await state_of(store(other, keys), "u") is OFFLINE


async def test_a_cluster_that_could_not_be_reached_at_first_is_doubted(keys: Keys) -> None:
    port = free_port()
    redis = redis_client(f"redis+cluster://127.0.0.1:{port}")
    async with redis as client:
        with pytest.raises(ChatError):
            await execute(client, [("GET", "k")])
        assert client.failed_at("k") > 0


def killed_connections(node: Server) -> None:
    node.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def owner_of(nodes: ClusterServers, keys: Keys, user: str) -> Server:
    return nodes.owner_of(slot_of(keys.presence_expiry(keys.presence_shard(user))))


@pytest.mark.slow
async def test_of_a_cluster_the_node_whose_connection_was_lost_is_doubted_and_whoever_follows_it(
    keys: Keys,
) -> None:
    with cluster_servers() as nodes:
        async with redis_client(nodes.url) as redis:
            presence = store(redis, keys)
            victim = owner_of(nodes, keys, "u")
            other = next(f"o{n}" for n in range(999) if owner_of(nodes, keys, f"o{n}") is not victim)
            await presence.sweep(64)
            assert [entry.state for entry in await presence.states(["u", other])] == [OFFLINE, OFFLINE]
            killed_connections(victim)
            await lost(redis)
            assert [entry.state for entry in await presence.states(["u", other])] == [UNKNOWN, OFFLINE]
            replica = nodes.replicas[nodes.primaries.index(victim)]
            assert replica.do("CLUSTER", "FAILOVER", "TAKEOVER") in (b"OK", True)
            await asyncio.to_thread(until, lambda: owner_of(nodes, keys, "u") is replica)
            assert [entry.state for entry in await presence.states(["u", other])] == [UNKNOWN, OFFLINE]

            async def knows() -> bool:
                await execute(redis, [("GET", keys.presence_expiry(keys.presence_shard("u")) + "x")])
                return redis.losses > 1

            await eventually(knows)
            assert [entry.state for entry in await presence.states(["u", other])] == [UNKNOWN, OFFLINE]
