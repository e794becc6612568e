"""Refresh tokens on a MongoDB that fails in the middle: the device gets its tokens in the end, and two lines of
tokens never go on from one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from mongo_pods import Pods, about, pods
from support.mongo import faults
from support.mongo.commands.call import Call
from support.mongo.shard_away import shard_away
from support.mongo.topology import mongos
from support.mongo.wire import Document

from chatkernel.storage.model import Device, RefreshOutcome, User
from chatkernel.storage.mongo import devices
from chatkernel.storage.mongo.store import MongoStore, open_mongo

LATE = 9_000_000
DEVICE = Device("d_1", "u_ann", "Phone", 1, 1)


@pytest.fixture
async def running() -> AsyncIterator[Pods]:
    async with pods() as started:
        yield started


@pytest.fixture
async def store(running: Pods) -> MongoStore:
    store = await running.start()
    await store.create_user(User("u_ann", "ann", "Ann", 1), "")
    await store.add_device(DEVICE)
    return store


async def refresh(store: MongoStore, old: str, new: str, at: int = 200) -> RefreshOutcome:
    return (await store.rotate_refresh(old, new, at, LATE)).outcome


async def test_killed_after_any_command_the_device_gets_its_tokens(running: Pods, store: MongoStore) -> None:
    came, steps = True, 0
    while came:
        for retry in (False, True):
            old, lost, new = f"old{steps}{retry}", f"lost{steps}{retry}", f"new{steps}{retry}"
            await store.add_device(DEVICE)
            await store.put_refresh(old, "u_ann", "d_1", LATE)
            if retry:  # the refresh that is killed is itself one that asks again
                assert await refresh(store, old, f"first{steps}") is RefreshOutcome.ROTATED

            def work(dying: MongoStore, old: str = old, lost: str = lost) -> object:
                return refresh(dying, old, lost)

            came = await running.dies(work, after=steps)  # type: ignore[arg-type]
            assert await refresh(store, old, new) is RefreshOutcome.ROTATED, f"killed after {steps}"
            assert await refresh(store, new, f"next{steps}{retry}") is RefreshOutcome.ROTATED
            assert await store.live_devices(["d_1"]) == {"d_1"}
            assert await refresh(store, old, "x") is RefreshOutcome.REUSED
        steps += 1
    assert steps >= 5


@pytest.mark.parametrize("command", ["delete", "update", "insert", "find"])
async def test_a_step_down_in_the_middle_costs_a_retry(
    running: Pods, store: MongoStore, command: str
) -> None:
    await store.put_refresh("t1", "u_ann", "d_1", LATE)

    async def hook(call: Call) -> Document:
        if about(call, "refresh_tokens"):
            return await faults.reset_after()(call)
        return await call.proceed()

    hooked = running.on(command, hook, times=2)
    outcome = None
    for number in range(6):
        try:
            outcome = await refresh(store, "t1", f"t2{number}")
        except Exception as error:
            assert getattr(error, "retryable", False), error
        else:
            break
    hooked.remove()
    assert outcome is RefreshOutcome.ROTATED
    assert await refresh(store, f"t2{number}", "t3") is RefreshOutcome.ROTATED
    assert await store.live_devices(["d_1"]) == {"d_1"}


@pytest.mark.parametrize("step", range(5))
async def test_a_log_in_between_any_two_steps_of_a_refresh(
    running: Pods, store: MongoStore, step: int
) -> None:
    """The log-in stays and works; the line of the old token ends."""
    await store.put_refresh("t1", "u_ann", "d_1", LATE)
    other, done = await running.start(), 0

    async def hook(call: Call) -> Document:
        nonlocal done
        if done == step:
            hooked.remove()
            await other.add_device(DEVICE)
            await other.put_refresh("in", "u_ann", "d_1", LATE)
        done += 1
        return await call.proceed()

    hooked = running.on("*", hook)
    assert await refresh(store, "t1", "line") in (RefreshOutcome.ROTATED, RefreshOutcome.UNKNOWN)
    assert await refresh(store, "line", "line2") is RefreshOutcome.UNKNOWN
    assert await refresh(store, "in", "in2") is RefreshOutcome.ROTATED
    assert await store.live_devices(["d_1"]) == {"d_1"}


@pytest.mark.parametrize("erased_before", ["find", "insert"])
async def test_no_token_is_left_for_a_device_that_is_erased_meanwhile(
    running: Pods, store: MongoStore, erased_before: str
) -> None:
    async def hook(call: Call) -> Document:
        hooked.remove()
        await store._collections.devices.delete_one({"_id": "d_1"})
        return await call.proceed()

    hooked = running.on(erased_before, hook)
    await store.put_refresh("token", "u_ann", "d_1", LATE)
    assert await store._collections.refresh_tokens.find_one({"_id": "token"}) is None


async def test_a_shard_that_is_away_and_has_nothing_of_the_device_delays_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what has expired is looked for on all shards."""
    monkeypatch.setattr(devices, "TIDY_S", 0.1)
    async with mongos() as router:
        store = await open_mongo(f"{router.url}&timeoutMS=30000")
        await store.ensure_schema()
        await store.create_user(User("u_ann", "ann", "Ann", 1), "")
        await store.add_device(DEVICE)
        await store.put_refresh("old", "u_ann", "d_1", LATE)
        router.on("*", shard_away(lambda _: False))
        async with asyncio.timeout(10):
            assert await refresh(store, "old", "new") is RefreshOutcome.ROTATED
        await store.aclose()
