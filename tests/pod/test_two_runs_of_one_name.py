"""Two processes with one pod's name: the older one ends, and they do not take the name from each other in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from support.cluster import eventually
from support.valkey import Valkey, redis_client, valkey_server

from chatkernel.keys import Keys
from chatkernel.registry import Registry
from chatkernel.settings import ServiceSettings
from chatpod.lease import Lease


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@pytest.fixture
async def registry(valkey: Valkey) -> AsyncIterator[Registry]:
    valkey.flush()
    async with redis_client(valkey.url) as redis:
        yield Registry(redis, Keys("chat", "two"))


class Process:
    """One process of the pod `chat-1`, with a clock of its own."""

    def __init__(self, registry: Registry, started_at_ms: int, *, address: str = "") -> None:
        self.now_ms = started_at_ms
        self.fenced = self.replaced = 0
        settings = ServiceSettings(
            cluster="two",
            pod="chat-1",
            revision="r",
            secret_file="",
            lease_s=1.0,
            lease_renew_s=0.03,
            address=address,
        )
        self.lease = Lease(
            registry,
            settings,
            lambda: self.now_ms,
            connections=lambda: 0,
            draining=lambda: False,
            on_fenced=self._fenced,
            on_forgotten=self._forgotten,
            on_replaced=self._replaced,
            on_gone=self._replaced,
        )
        self.task = asyncio.create_task(self.lease.run())

    async def registered(self) -> None:
        await asyncio.wait_for(self.lease.registered.wait(), 2)

    def _fenced(self) -> None:
        self.fenced += 1

    def _replaced(self) -> None:
        self.replaced += 1

    async def _forgotten(self) -> None:
        return None


async def test_the_older_ends_and_the_newer_keeps_the_name(registry: Registry) -> None:
    old = Process(registry, 1_000_000)
    await old.registered()
    new = Process(registry, 1_000_001)
    await new.registered()

    async def over() -> bool:
        return old.replaced > 0

    await eventually(over)
    await asyncio.sleep(0.3)  # many renewals
    old.task.cancel()
    new.task.cancel()
    assert (old.replaced, old.fenced, new.replaced, new.fenced) == (1, 0, 0, 0)
    [entry] = (await registry.snapshot()).entries
    assert entry.incarnation == new.lease.incarnation


async def test_one_that_was_frozen_meanwhile_does_not_take_the_name_back(registry: Registry) -> None:
    """It wakes later than the newer one was started: that must not make it the newer of the two."""
    old = Process(registry, 1_000_000)
    await old.registered()
    old.task.cancel()
    new = Process(registry, 1_000_500)
    await new.registered()
    old.now_ms += 60_000  # frozen for a minute by its own clock
    old.task = asyncio.create_task(old.lease.run())

    async def over() -> bool:
        return old.replaced > 0 or new.replaced > 0

    await eventually(over)
    await asyncio.sleep(0.2)
    old.task.cancel()
    new.task.cancel()
    assert (old.replaced, old.fenced) == (1, 1)
    assert (new.replaced, new.fenced) == (0, 0)


async def test_on_kubernetes_no_other_process_has_the_name_and_a_forged_entry_ends_nobody(
    registry: Registry,
) -> None:
    pod = Process(registry, 1_000_000, address="ws://10.0.0.1:8080/v1/socket")
    await pod.registered()
    [entry] = (await registry.snapshot()).entries
    forged = msgspec.structs.replace(entry, incarnation="forged", started_at=9_999_999_999_999)
    assert (await registry.renew(forged, 60.0)).ok

    async def is_back() -> bool:
        entries = (await registry.snapshot()).entries
        return [entry.incarnation for entry in entries] == [pod.lease.incarnation]

    await eventually(is_back)
    pod.task.cancel()
    assert pod.replaced == 0


async def test_one_that_was_frozen_and_missed_by_nobody_goes_on_as_another_run(registry: Registry) -> None:
    pod = Process(registry, 1_000_000)
    await pod.registered()
    before = pod.lease.incarnation
    pod.now_ms += 60_000

    async def another() -> bool:
        entries = (await registry.snapshot()).entries
        return bool(entries) and entries[0].incarnation not in ("", before)

    await eventually(another)
    pod.task.cancel()
    assert (pod.fenced, pod.replaced) == (1, 0)
