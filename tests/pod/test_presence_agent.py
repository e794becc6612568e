"""Leases of the people who are connected: kept through what Redis does, and told of for sure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.one_pod import OnePod
from support.proxy import Proxy, proxy_to
from support.valkey import Valkey, eventually, fresh_keys, redis_client

from chatkernel.bus import Post, PresenceChange
from chatkernel.ids import now_ms
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.protocol import PresenceState
from chatkernel.redis_client import Redis, execute
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings
from chatkernel.storage.open import Store
from chatpod.client import Client
from chatpod.presence_agent import PresenceAgent

SETTINGS = PresenceSettings(heartbeat_interval_s=0.2, offline_after_s=60.0)


@pytest.fixture
async def proxy(valkey: Valkey) -> AsyncIterator[Proxy]:
    async with proxy_to(valkey.port) as between:
        yield between


@pytest.fixture
async def redis(proxy: Proxy) -> AsyncIterator[Redis]:
    """As the pod reaches it."""
    async with redis_client(f"redis://127.0.0.1:{proxy.port}/0") as client:
        yield client


@pytest.fixture
async def other(valkey: Valkey) -> AsyncIterator[Redis]:
    async with redis_client(valkey.url) as client:
        yield client


class Agent:
    """An agent, and what it tells."""

    def __init__(self, pod: OnePod, store: Store, redis: Redis, keys: Keys) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.agent = PresenceAgent(
            pod.hub,
            PresenceStore(redis, keys, SETTINGS),
            Routes(redis, keys, "a"),
            store,
            SETTINGS,
            self._tell,
            now_ms,
        )

    def _tell(self, posts: object) -> None:
        assert isinstance(posts, list)
        for post in posts:
            assert isinstance(post, Post) and isinstance(post.envelope, PresenceChange)
            self.told.append((post.envelope.user_id, post.envelope.frame))

    @property
    def online(self) -> list[str]:
        return [user for user, frame in self.told if b'"online"' in frame]


@pytest.fixture
def keys() -> Keys:
    return fresh_keys("agent")


@pytest.fixture
def agent(pod: OnePod, store: Store, redis: Redis, keys: Keys) -> Agent:
    return Agent(pod, store, redis, keys)


async def came(pod: OnePod, user: str) -> Client:
    client, _ = await pod.came(user)
    client.beat_at = asyncio.get_running_loop().time()
    return client


async def test_who_came_is_told_of_though_the_reply_that_said_so_was_lost(
    pod: OnePod, agent: Agent, proxy: Proxy, other: Redis, keys: Keys
) -> None:
    first, eve = await came(pod, "u_first"), await came(pod, "u_eve")
    await agent.agent.arrived(first)
    proxy.loses_replies = True
    arriving = asyncio.create_task(agent.agent.arrived(eve))
    presence = PresenceStore(other, keys, SETTINGS)

    async def written() -> bool:
        return (await presence.states(["u_eve"]))[0].state is PresenceState.ONLINE

    await eventually(written)
    proxy.loses_replies = False
    proxy.cut()
    await arriving
    assert agent.online == ["u_first"] and agent.agent.degraded
    running = asyncio.create_task(agent.agent.run())

    async def told() -> bool:
        return agent.online == ["u_first", "u_eve"] and not agent.agent.degraded

    await eventually(told)
    running.cancel()


async def test_who_could_not_be_renewed_is_renewed_once_there_is_room(
    pod: OnePod, agent: Agent, other: Redis, keys: Keys
) -> None:
    """And not only when the client is heard of again."""
    eve = await came(pod, "u_eve")
    await agent.agent.arrived(eve)
    await execute(other, [("CONFIG", "SET", "maxmemory", 1)])
    running = asyncio.create_task(agent.agent.run())
    await asyncio.sleep(0)
    eve.beat_at = asyncio.get_running_loop().time()  # heard of once, while it fails

    async def failed() -> bool:
        return agent.agent.degraded

    await eventually(failed)
    await execute(other, [("CONFIG", "SET", "maxmemory", 0)])
    await execute(other, [("ZREM", keys.presence_expiry(keys.presence_shard("u_eve")), "u_eve")])
    presence = PresenceStore(other, keys, SETTINGS)

    async def renewed() -> bool:
        return (await presence.states(["u_eve"]))[0].state is PresenceState.ONLINE

    await eventually(renewed)
    running.cancel()


async def test_presence_is_well_again_though_everybody_has_gone(
    pod: OnePod, agent: Agent, other: Redis
) -> None:
    eve = await came(pod, "u_eve")
    await execute(other, [("CONFIG", "SET", "maxmemory", 1)])
    await agent.agent.arrived(eve)
    pod.hub.deregister(eve)
    eve.connection.closed = True
    running = asyncio.create_task(agent.agent.run())
    await asyncio.sleep(0.2)
    assert agent.agent.degraded, "it is still full"
    await execute(other, [("CONFIG", "SET", "maxmemory", 0)])

    async def well() -> bool:
        return not agent.agent.degraded

    await eventually(well)
    running.cancel()
