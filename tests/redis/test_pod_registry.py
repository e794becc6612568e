"""The registry: leases by Redis' clock, runs that end, and entries that Redis lost."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from support.valkey import Valkey, eventually, redis_client

from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import POLICY_REMEMBERED_S, PodEntry, PodState, Policy, Registry, RenewResult

LEASE_S = 5.0


def entry(name: str = "a", incarnation: str = "1", started_at: int = 1_000, connections: int = 0) -> PodEntry:
    return PodEntry(
        name, incarnation, f"ws://{name}", "local", "r1", PodState.READY, connections, 100, started_at
    )


@pytest.fixture
def registry(redis: Redis, keys: Keys) -> Registry:
    return Registry(redis, keys)


async def test_the_first_renewal_finds_nothing_and_the_next_its_own_entry(registry: Registry) -> None:
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=True)
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=False)


async def test_a_snapshot_has_what_was_last_renewed_with_the_lease_by_redis_clock(registry: Registry) -> None:
    await registry.renew(entry(connections=1), LEASE_S)
    await registry.renew(entry(connections=7), LEASE_S)
    snapshot = await registry.snapshot()
    (seen,) = snapshot.entries
    assert msgspec.structs.replace(seen, lease_until=0) == entry(connections=7)
    assert 0 < seen.lease_until - snapshot.redis_now_ms <= LEASE_S * 1000


async def test_an_expired_entry_is_listed_apart_until_removed(registry: Registry) -> None:
    await registry.renew(entry("a"), 0.001)
    await registry.renew(entry("b"), LEASE_S)
    await asyncio.sleep(0.005)
    snapshot = await registry.snapshot()
    assert [e.name for e in snapshot.entries] == ["b"]
    assert [e.name for e in snapshot.expired] == ["a"]
    assert await registry.remove("a")
    assert (await registry.snapshot()).expired == []
    assert not await registry.remove("a")


async def test_a_newer_run_takes_the_name_and_the_older_one_is_refused_and_left_to_the_reaper(
    registry: Registry,
) -> None:
    await registry.renew(entry(incarnation="old", started_at=1), LEASE_S)
    assert await registry.renew(entry(incarnation="new", started_at=2), LEASE_S) == RenewResult(True, True)
    assert not (await registry.renew(entry(incarnation="old", started_at=1), LEASE_S)).ok
    assert [e.incarnation for e in (await registry.snapshot()).entries] == ["new"]
    assert [e.incarnation for e in await registry.departed()] == ["old"]


async def test_an_older_run_cannot_take_the_name_of_a_live_newer_one_but_of_an_expired_one(
    registry: Registry,
) -> None:
    await registry.renew(entry(incarnation="new", started_at=2), 0.05)
    assert await registry.renew(entry(incarnation="old", started_at=1), LEASE_S) == RenewResult(False, False)
    await asyncio.sleep(0.06)
    assert (await registry.renew(entry(incarnation="old", started_at=1), LEASE_S)).ok


async def test_a_removed_run_never_renews_again_and_another_run_does(registry: Registry) -> None:
    await registry.renew(entry(incarnation="1"), LEASE_S)
    assert not await registry.remove("a", "another")
    assert await registry.remove("a", "1")
    assert await registry.renew(entry(incarnation="1"), LEASE_S) == RenewResult(ok=False, was_missing=True)
    assert await registry.renew(entry(incarnation="2", started_at=2_000), LEASE_S) == RenewResult(True, True)


async def test_sparing_removal_leaves_a_run_whose_lease_runs(registry: Registry) -> None:
    await registry.renew(entry(), LEASE_S)
    assert not await registry.remove("a", "1", expired_only=True)
    assert (await registry.renew(entry(), LEASE_S)).ok


async def test_only_an_expired_run_is_condemned_and_once_cleared_it_stays_cleared(registry: Registry) -> None:
    await registry.renew(entry(), 0.03)
    assert not await registry.condemn(entry())
    await asyncio.sleep(0.04)
    assert await registry.condemn(entry())
    assert await registry.condemn(entry())
    assert len(await registry.departed()) == 1
    (expired,) = (await registry.snapshot()).expired
    assert expired.lease_until > 0
    await registry.bury(entry())
    assert not await registry.condemn(entry())
    assert await registry.remove("a")
    assert await registry.departed() == []


async def test_a_condemned_run_that_lives_is_told_to_write_everything_anew(registry: Registry) -> None:
    await registry.renew(entry(), 0.001)
    await asyncio.sleep(0.005)
    await registry.condemn(entry())
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=True)
    assert await registry.departed() == []
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=False)


async def test_a_run_that_is_only_late_lost_nothing(registry: Registry) -> None:
    await registry.renew(entry(), 0.001)
    await asyncio.sleep(0.005)
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=False)


async def test_the_policy_is_kept_and_stands_for_a_while_after_redis_was_emptied(
    redis: Redis, keys: Keys
) -> None:
    clock = [0.0]
    registry = Registry(redis, keys, lambda: clock[0])
    assert await registry.policy() == Policy()
    wanted = Policy("r2", ["b"])
    await registry.set_policy(wanted)
    assert await registry.policy() == wanted
    assert (await registry.snapshot()).policy == wanted
    await execute(redis, [("HDEL", keys.registry, "policy")])
    clock[0] += 59
    assert (await registry.snapshot()).policy == wanted
    assert await registry.policy() == Policy()
    clock[0] += 2
    assert (await registry.snapshot()).policy == Policy()


async def test_a_policy_that_comes_back_with_old_data_is_not_believed_for_a_while(
    redis: Redis, keys: Keys
) -> None:
    clock = [0.0]
    registry, operator = Registry(redis, keys, lambda: clock[0]), Registry(redis, keys)
    await operator.set_policy(Policy("r1"))
    (old,) = await execute(redis, [("DUMP", keys.registry)])
    assert (await registry.snapshot()).policy == Policy("r1")
    await operator.set_policy(Policy("r2", ["a"]))
    assert (await registry.snapshot()).policy == Policy("r2", ["a"])
    await execute(redis, [("RESTORE", keys.registry, 0, old, "REPLACE")])
    assert (await registry.snapshot()).policy == Policy("r2", ["a"])
    assert await operator.policy() == Policy("r1")  # and sets what it wants again
    await operator.set_policy(Policy("r3"))
    assert (await registry.snapshot()).policy == Policy("r3")
    await execute(redis, [("RESTORE", keys.registry, 0, old, "REPLACE")])
    clock[0] += POLICY_REMEMBERED_S + 1
    assert (await registry.snapshot()).policy == Policy("r1")


async def test_redis_emptied_or_restarted_is_noticed_at_the_next_renewal(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        registry = Registry(client, keys)
        await registry.renew(entry(), LEASE_S)
        own_valkey.flush()
        assert (await registry.renew(entry(), LEASE_S)).was_missing
        own_valkey.kill()
        with pytest.raises(ChatError) as caught:
            await registry.renew(entry(), LEASE_S)
        assert caught.value.code is Code.REDIS_UNAVAILABLE
        with pytest.raises(ChatError):
            await registry.snapshot()
        own_valkey.start()

        async def back() -> bool:
            return (await registry.renew(entry(), LEASE_S)).was_missing

        await eventually(back)


NOT_ENTRIES = [
    b"{not an entry",
    b"[]",
    b'"a"',
    b'{"incarnation": 7}',
    b'{"incarnation": "1"}',
    b"\xff\xfe",
    b"null",
]


@pytest.mark.parametrize("written", NOT_ENTRIES)
async def test_an_entry_that_nobody_understands_is_passed_over_and_said_once(
    redis: Redis, keys: Keys, registry: Registry, written: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    await registry.renew(entry("b"), LEASE_S)
    await execute(redis, [("HSET", keys.registry, "pod:forged", written, "lease:forged", "soon")])
    for _ in range(2):
        snapshot = await registry.snapshot()
        assert [e.name for e in snapshot.entries] == ["b"] and snapshot.expired == []
        assert snapshot.unread == ["forged"]
    assert [(record.message, record.__dict__["of"]) for record in caplog.records] == [
        ("not understood", "forged")
    ]
    # It does not keep a pod from its own name, nor anybody from taking it out.
    assert (await registry.renew(entry("forged"), LEASE_S)).ok
    assert (await registry.renew(entry("forged"), LEASE_S)).ok
    assert sorted(e.name for e in (await registry.snapshot()).entries) == ["b", "forged"]
    await execute(redis, [("HSET", keys.registry, "pod:forged", written)])
    assert await registry.remove("forged")
    assert not await registry.remove("forged")
    assert await registry.departed() == []


async def test_a_policy_that_nobody_understands_is_as_none_and_said_once(
    redis: Redis, keys: Keys, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = Policy("r2", ["b"])
    await registry.set_policy(wanted)
    await registry.snapshot()
    await execute(redis, [("HSET", keys.registry, "policy", b"{")])
    assert await registry.policy() == Policy()
    assert (await registry.snapshot()).policy == wanted
    assert [record.message for record in caplog.records] == ["not understood"]


async def test_a_run_that_is_forgotten_long_after_its_lease_may_come_back(registry: Registry) -> None:
    """Cut off from Redis while its people are connected: it is no less alive for that."""
    await registry.renew(entry(), 0.001)
    await asyncio.sleep(0.005)
    assert await registry.remove("a", "1", expired_only=True)
    assert [e.incarnation for e in await registry.departed()] == ["1"]
    assert await registry.renew(entry(), LEASE_S) == RenewResult(ok=True, was_missing=True)
    assert await registry.departed() == []
