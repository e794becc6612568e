"""A pod that the registry does not know writes everything anew, as often as it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from support.cluster import eventually

from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.registry import PodEntry, RenewResult
from chatkernel.settings import ServiceSettings
from chatpod.lease import Lease


class FakeRegistry:
    """Answers as told, once each, and then that all is well."""

    def __init__(self, *answers: RenewResult) -> None:
        self.answers = list(answers)
        self.entries: list[PodEntry] = []

    async def renew(self, entry: PodEntry, lease_s: float, *, only: bool = False) -> RenewResult:
        self.entries.append(entry)
        return self.answers.pop(0) if self.answers else RenewResult(True, False)


class Noted:
    def __init__(self, failures: int = 0) -> None:
        self.forgotten = self.fenced = 0
        self.failures = failures

    async def on_forgotten(self) -> None:
        self.forgotten += 1
        if self.forgotten <= self.failures:
            raise ChatError(Code.REDIS_UNAVAILABLE)

    def on_fenced(self) -> None:
        self.fenced += 1


def lease_of(
    registry: FakeRegistry,
    noted: Noted,
    *,
    draining: bool = False,
    lease_s: float = 5.0,
    renew_s: float = 0.01,
    on_forgotten: Callable[[], Awaitable[None]] | None = None,
) -> Lease:
    settings = ServiceSettings(
        cluster="c",
        pod="p",
        revision="r",
        redis_url="",
        store_url="",
        secret_file="",
        lease_renew_s=renew_s,
        lease_s=lease_s,
    )
    return Lease(
        registry,  # type: ignore[arg-type]
        settings,
        now_ms,
        connections=lambda: 0,
        draining=lambda: draining,
        on_fenced=noted.on_fenced,
        on_forgotten=on_forgotten or noted.on_forgotten,
        on_replaced=noted.on_fenced,
        on_gone=noted.on_fenced,
    )


async def renewals(lease: Lease, registry: FakeRegistry, number: int) -> None:
    task = asyncio.create_task(lease.run())

    async def enough() -> bool:
        return len(registry.entries) >= number

    await eventually(enough)
    task.cancel()


async def test_writing_anew_is_tried_again_until_it_was_done() -> None:
    """Redis was emptied and then went away: the next renewal finds an entry, and routes that are not there."""
    registry, noted = FakeRegistry(RenewResult(True, True)), Noted(failures=2)
    lease = lease_of(registry, noted)
    await renewals(lease, registry, 6)
    assert noted.forgotten == 3
    assert lease.registered.is_set() and not lease.degraded


async def test_a_run_that_was_declared_over_begins_another() -> None:
    registry, noted = FakeRegistry(RenewResult(True, True), RenewResult(False, True)), Noted()
    await renewals(lease_of(registry, noted), registry, 4)
    runs = list(dict.fromkeys(entry.incarnation for entry in registry.entries))
    assert len(runs) == 2 and noted.fenced == 1
    assert registry.entries[-1].started_at >= registry.entries[0].started_at


async def test_a_run_that_is_going_anyway_does_not() -> None:
    registry, noted = FakeRegistry(RenewResult(False, True), RenewResult(False, True)), Noted()
    await renewals(lease_of(registry, noted, draining=True), registry, 4)
    assert len({entry.incarnation for entry in registry.entries}) == 1 and noted.fenced == 0


async def test_writing_everything_anew_may_take_longer_than_a_lease() -> None:
    """Hundreds of thousands of routes over a slow wire are no sleep: the lease is renewed meanwhile."""
    registry, noted = FakeRegistry(RenewResult(True, True)), Noted()
    done = asyncio.Event()

    async def write() -> None:
        begun = len(registry.entries)
        while len(registry.entries) < begun + 30:
            await asyncio.sleep(0.01)
        done.set()

    lease = lease_of(registry, noted, lease_s=0.05, on_forgotten=write)
    task = asyncio.create_task(lease.run())
    async with asyncio.timeout(5):
        await done.wait()
        await lease.registered.wait()
    task.cancel()
    assert noted.fenced == 0
    assert len({entry.incarnation for entry in registry.entries}) == 1


async def test_a_pod_that_did_not_run_for_longer_than_its_lease_begins_another_run() -> None:
    registry, noted = FakeRegistry(RenewResult(True, True)), Noted()
    task = asyncio.create_task(lease_of(registry, noted, lease_s=0.05).run())

    async def renewed() -> bool:
        return len(registry.entries) > 3

    await eventually(renewed)
    time.sleep(0.2)

    async def fenced() -> bool:
        return noted.fenced == 1 and len({entry.incarnation for entry in registry.entries}) == 2

    await eventually(fenced)
    task.cancel()


async def test_what_changes_during_a_renewal_is_written_right_after_it() -> None:
    class Slow(FakeRegistry):
        async def renew(self, entry: PodEntry, lease_s: float, *, only: bool = False) -> RenewResult:
            if not self.entries:
                lease.renew_soon()
            return await super().renew(entry, lease_s, only=only)

    registry = Slow()
    lease = lease_of(registry, Noted(), renew_s=60.0)
    await renewals(lease, registry, 2)
