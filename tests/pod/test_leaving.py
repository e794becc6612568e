"""A pod that goes leaves nothing in Redis that nobody would clear away."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from support.valkey import eventually, free_port, fresh_keys, redis_client, valkey_server

from chatkernel import bus as bus_module
from chatkernel.bus import Bus
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from chatkernel.settings import SecretFile, ServiceSettings, SigningKey
from chatkernel.wiring import Kernel
from chatpod.pod import Pod
from worker.reaper import Reaper

BLOCK_MS = 40


def reaper_of(redis: Redis, keys: Keys) -> Reaper:
    routes, intents = Routes(redis, keys, ""), Intents(redis, keys, "")
    bus = Bus(redis, keys, routes, "")
    return Reaper(Registry(redis, keys), routes, intents, bus, lease_s=5.0, monotonic=time.monotonic)


async def test_a_stream_that_was_cleared_away_after_the_pod_left_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process may live on for a moment: it closes its store, and what it still holds."""
    monkeypatch.setattr(bus_module, "BLOCK_MS", BLOCK_MS)
    keys = fresh_keys("leaving")
    with valkey_server() as valkey:
        settings = ServiceSettings(
            cluster=keys.base.split(":")[1],
            key_prefix=keys.base.split(":")[0],
            pod="a",
            revision="r",
            redis_url=valkey.url,
            store_url=f"sqlite:///{tmp_path}/chat.db",
            secret_file="",
            port=free_port(),
        )
        kernel = await Kernel.build(settings, SecretFile([SigningKey("k", "x" * 40)]))
        await kernel.store.ensure_schema()
        pod = Pod(kernel)
        await pod.start()
        try:
            async with asyncio.timeout(5):
                await pod.lease.registered.wait()
            await kernel.routes.add(channels=["c"])
            await pod.drain_and_leave()
            async with redis_client(valkey.url) as other:
                await reaper_of(other, keys).step()

                async def read_on() -> bool:
                    """As long as its reader took to see that the stream has gone."""
                    await asyncio.sleep(3 * BLOCK_MS / 1000)
                    return True

                await eventually(read_on)
                (left,) = await execute(other, [("KEYS", f"{keys.base}*a*")])
                assert [key for key in left if b"pod:a" in key or b"route:" in key] == []
        finally:
            await pod.stop()
