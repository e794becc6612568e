"""The Lease: one holds it, another takes over, and whoever slept does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.kube_api import KubeApi, eventually

from chatoperator.kube.errors import NotLeading
from chatoperator.kube.leader import HOLD_S, LEASE_S, Leader, LeaseLost

LEASE = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/operator"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().running() as running:
        yield running


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pair(api: KubeApi, clock: Clock) -> AsyncIterator[tuple[Leader, Leader]]:
    clients = [api.client(), api.client()]
    first, second = (
        Leader(client, "ops", "operator", name, renew_s=0.05, request_s=1, monotonic=clock)
        for client, name in zip(clients, ("first", "second"), strict=True)
    )
    yield first, second
    for client in clients:
        await client.aclose()


def holder(api: KubeApi) -> str:
    return api.objects[LEASE]["spec"]["holderIdentity"]


async def test_only_one_of_two_gets_it(api: KubeApi, pair: tuple[Leader, Leader]) -> None:
    first, second = pair
    await first.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.acquire(), 1.5)
    assert first.is_leading()
    assert not second.is_leading()
    with pytest.raises(NotLeading):
        second.check()


async def test_of_two_that_take_it_at_once_one_has_it(api: KubeApi, pair: tuple[Leader, Leader]) -> None:
    waiting = [asyncio.create_task(leader.acquire()) for leader in pair]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)
    assert [leader.identity for leader in pair if leader.is_leading()] == [holder(api)]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_another_takes_over_from_one_that_is_gone(
    api: KubeApi, pair: tuple[Leader, Leader], clock: Clock
) -> None:
    first, second = pair
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await eventually(lambda: second.heard_at == clock.now)
    clock.now += LEASE_S + 0.1
    await asyncio.wait_for(waiting, 5)
    assert holder(api) == "second"
    assert not first.is_leading()
    assert api.objects[LEASE]["spec"]["leaseTransitions"] == 1


async def test_who_slept_does_nothing_when_it_wakes(pair: tuple[Leader, Leader], clock: Clock) -> None:
    first, _ = pair
    await first.acquire()
    clock.now += HOLD_S + 0.1
    with pytest.raises(NotLeading):
        first.check()
    with pytest.raises(LeaseLost):
        await first.hold()


async def test_who_cannot_renew_stops_before_another_may_begin(
    api: KubeApi, pair: tuple[Leader, Leader], clock: Clock
) -> None:
    first, _ = pair
    await first.acquire()
    api.stand_still = asyncio.Event()
    holding = asyncio.create_task(first.hold())
    await asyncio.sleep(0)
    assert HOLD_S < LEASE_S
    clock.now += HOLD_S
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(holding, 10)
    api.stand_still.set()


async def test_an_answer_that_comes_late_gives_no_time(
    api: KubeApi, pair: tuple[Leader, Leader], clock: Clock
) -> None:
    """The Lease holds from when it was asked for, and not from when the answer came."""
    first, _ = pair
    api.stand_still = asyncio.Event()
    acquiring = asyncio.create_task(first.acquire())
    await eventually(lambda: api.asked("GET", "leases/operator") == 1)
    clock.now += HOLD_S + 1
    api.stand_still.set()
    await acquiring
    assert not first.is_leading()


async def test_a_clean_end_makes_nobody_wait(api: KubeApi, pair: tuple[Leader, Leader]) -> None:
    first, second = pair
    await first.acquire()
    await first.release()
    await asyncio.wait_for(second.acquire(), 5)
    assert holder(api) == "second"
