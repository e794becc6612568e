"""A pod that was removed for good gets in under no name of its own again, until that is long ago."""

from __future__ import annotations

import asyncio

import pytest
from support.bus_pod import BusPod

from chatkernel import registry as registry_module
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import Registry, RenewResult

LEASE_S = 60.0
REFUSED = RenewResult(ok=False, was_missing=False, gone=True)


@pytest.fixture
def registry(redis: Redis, keys: Keys) -> Registry:
    return Registry(redis, keys)


async def test_no_run_of_its_name_registers_again(redis: Redis, keys: Keys, registry: Registry) -> None:
    pod, other = BusPod(redis, keys, "a"), BusPod(redis, keys, "b")
    await pod.renew(LEASE_S)
    await other.renew(LEASE_S)
    assert await registry.remove("a", "1", for_good=True)
    assert await pod.renew(LEASE_S) == REFUSED
    assert await BusPod(redis, keys, "a", "2", started_at=99).renew(LEASE_S) == REFUSED
    assert [entry.name for entry in (await registry.snapshot()).entries] == ["b"]
    assert [entry.incarnation for entry in await registry.departed()] == ["1"]
    assert (await other.renew(LEASE_S)).ok


async def test_it_holds_for_one_that_has_no_entry_and_for_whichever_run(
    redis: Redis, keys: Keys, registry: Registry
) -> None:
    assert not await registry.remove("a", for_good=True)
    assert await BusPod(redis, keys, "a").renew(LEASE_S) == REFUSED
    later = BusPod(redis, keys, "b", "2")
    await later.renew(LEASE_S)
    assert await registry.remove("b", "1", for_good=True)  # by a look of before it woke as another run
    assert await later.renew(LEASE_S) == REFUSED


async def test_it_is_forgotten_in_time(
    redis: Redis, keys: Keys, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "GONE_KEPT_S", 0.05)
    await registry.remove("a", for_good=True)
    await asyncio.sleep(0.06)
    assert (await BusPod(redis, keys, "a").renew(LEASE_S)).ok
    await registry.remove("a")
    (fields,) = await execute(redis, [("HKEYS", keys.registry)])
    assert b"gone:a" not in fields
