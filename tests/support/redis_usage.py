"""Every command and script that the services send to Redis, once."""

from __future__ import annotations

import asyncio

from chatkernel.bus import Bus, Poke, Post
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.presence import Audience, PresenceStore
from chatkernel.ratelimit import RateLimiter
from chatkernel.redis_client import Redis
from chatkernel.registry import PodEntry, PodState, Policy, Registry
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings


async def use_everything(redis: Redis, keys: Keys) -> None:
    """Raises ChatError when Redis refuses something, AssertionError when it answers something wrong."""
    await _use_registry(redis, keys)
    await _use_bus(redis, keys)
    await _use_presence(redis, keys)
    limiter = RateLimiter(redis, keys)
    # Were it refused, the limiter would count by itself: a second one would know nothing of it.
    assert await asyncio.gather(*[limiter.hit(f"n{n}", 1.0, 1) for n in range(20)]) == [0.0] * 20
    assert await RateLimiter(redis, keys).hit("n0", 1.0, 1) > 0


async def _use_registry(redis: Redis, keys: Keys) -> None:
    registry = Registry(redis, keys)
    entry = PodEntry("a", "1", "ws://a", "l", "r", PodState.READY, 0, 9, 1)
    await registry.set_policy(Policy("r"))
    await registry.renew(entry, 0.001)
    await asyncio.sleep(0.005)
    assert len((await registry.snapshot()).expired) == 1
    assert await registry.condemn(entry)
    await registry.bury(entry)
    assert await registry.remove("a")


async def _use_bus(redis: Redis, keys: Keys) -> None:
    routes, intents = Routes(redis, keys, "a"), Intents(redis, keys, "a")
    bus, stop = Bus(redis, keys, routes, "a"), asyncio.Event()
    await bus.open()
    await routes.add(channels=["c1", "c2"], users=["u1"], watched=["u2"])
    await routes.reassert()
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    assert await sender.publish([Post(Poke(["c1"]), ("c1", "c2"), ("u1",), ("u2",))]) == 1
    async for item in bus.read(stop):
        assert item == [Poke(["c1"])]
        stop.set()
    await intents.begin(["c1", "c2"])
    await intents.done(["c1"])
    assert await intents.take("a") == ["c2"]
    assert await intents.owners() == ["a"]
    await intents.forget("a")
    await routes.reap("a")


async def _use_presence(redis: Redis, keys: Keys) -> None:
    presence = PresenceStore(redis, keys, PresenceSettings(offline_after_s=0.05))
    users = [f"u{n}" for n in range(50)]
    assert len((await presence.beat([(user, "d") for user in users])).came) == 50
    await presence.set_audience("u1", Audience(["c"], ["f"]))
    assert len(await presence.states(users)) == 50
    await presence.leave("u1", "d")
    await asyncio.sleep(0.06)
    assert len(await presence.sweep(1_600)) == 49
    await presence.settle(users)
    assert len(await presence.audience(users)) == 1
    assert await presence.online() == 0
