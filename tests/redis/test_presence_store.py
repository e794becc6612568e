"""Presence: right by leases alone, told once, many devices, many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from support.valkey import Valkey, redis_client

from chatkernel import presence as presence_module
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.keys import PRESENCE_SHARDS, Keys
from chatkernel.presence import Audience, Beats, PresenceStore
from chatkernel.protocol import PresenceState
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_link import Command
from chatkernel.settings import PresenceSettings

ONLINE, OFFLINE = PresenceState.ONLINE, PresenceState.OFFLINE
SHORT_S = 0.05
NOBODY = Beats([], [])


def store(redis: Redis, keys: Keys, lease_s: float = 30.0) -> PresenceStore:
    return PresenceStore(redis, keys, PresenceSettings(offline_after_s=lease_s))


async def state_of(presence: PresenceStore, user: str) -> PresenceState:
    return (await presence.states([user]))[0].state


async def test_coming_online_is_told_once_however_many_devices_and_pods_beat_at_once(
    redis: Redis, keys: Keys
) -> None:
    pods = [store(redis, keys) for _ in range(4)]
    came = await asyncio.gather(
        *[pods[n % 4].beat([("u1", f"d{n}"), (f"v{n}", "d"), ("u2", "d")]) for n in range(40)]
    )
    everyone = sorted(user for beats in came for user in beats.came)
    assert everyone == sorted(["u1", "u2", *[f"v{n}" for n in range(40)]])
    assert await pods[0].beat([("u1", "d0")]) == NOBODY
    assert await pods[0].online() == 42
    assert await pods[0].beat([]) == NOBODY


async def test_states_are_in_the_order_asked_with_last_activity(redis: Redis, keys: Keys) -> None:
    presence = store(redis, keys)
    await presence.beat([("u1", "d")])
    first, second, again = await presence.states(["u1", "nobody", "u1"])
    assert (first.state, second.state, again) == (ONLINE, OFFLINE, first)
    assert first.last_active_at is not None
    assert abs(first.last_active_at - now_ms()) < 2_000
    assert second.last_active_at is None
    assert await presence.states([]) == []


async def test_a_lease_that_ran_out_is_offline_before_any_sweep(redis: Redis, keys: Keys) -> None:
    presence = store(redis, keys, SHORT_S)
    await presence.beat([("u", "d")])
    await asyncio.sleep(SHORT_S + 0.01)
    (entry,) = await presence.states(["u"])
    assert entry.state is OFFLINE
    assert entry.last_active_at is not None


async def test_a_user_is_online_while_any_device_is_and_leaving_is_told_with_the_last(
    redis: Redis, keys: Keys
) -> None:
    presence = store(redis, keys)
    await presence.beat([("u", "laptop"), ("u", "phone")])
    assert not await presence.leave("u", "laptop")
    assert await state_of(presence, "u") is ONLINE
    assert await presence.leave("u", "phone")
    assert not await presence.leave("u", "phone")
    (entry,) = await presence.states(["u"])
    assert entry.state is OFFLINE and entry.last_active_at is not None
    assert abs(entry.last_active_at - now_ms()) < 2_000
    assert await presence.sweep(1_600) == []
    assert (await presence.beat([("u", "phone")])).came == ["u"]


async def test_after_a_device_leaves_the_other_ones_lease_counts(redis: Redis, keys: Keys) -> None:
    quick, slow = store(redis, keys, SHORT_S), store(redis, keys)
    await quick.beat([("u", "phone")])
    await slow.beat([("u", "laptop")])
    assert not await slow.leave("u", "laptop")
    await asyncio.sleep(SHORT_S + 0.01)
    assert await state_of(quick, "u") is OFFLINE


async def test_a_sweep_gives_each_expired_person_to_one_of_many_workers(redis: Redis, keys: Keys) -> None:
    presence = store(redis, keys, SHORT_S)
    workers = [store(redis, keys) for _ in range(4)]
    await presence.beat([(f"u{n}", "d") for n in range(200)])
    await store(redis, keys).beat([("stays", "d")])
    await asyncio.sleep(SHORT_S + 0.01)
    found = await asyncio.gather(*[worker.sweep(320) for worker in workers for _ in range(3)])
    swept = [user for some in found for user, _ in some]
    assert sorted(swept) == sorted(f"u{n}" for n in range(200))
    assert all(abs(last - now_ms()) < 5_000 for some in found for _, last in some)
    assert await presence.online() == 1


async def test_a_sweep_takes_no_more_than_asked(redis: Redis, keys: Keys) -> None:
    presence = store(redis, keys, SHORT_S)
    await presence.beat([(f"u{n}", "d") for n in range(200)])
    await asyncio.sleep(SHORT_S + 0.01)
    assert len(await presence.sweep(64)) <= 64


async def test_a_beat_after_the_lease_ran_out_is_coming_online_though_no_sweep_was_in_between(
    redis: Redis, keys: Keys
) -> None:
    presence = store(redis, keys, SHORT_S)
    await presence.beat([("u", "d")])
    await asyncio.sleep(SHORT_S + 0.01)
    assert (await presence.beat([("u", "d")])).came == ["u"]
    assert await presence.sweep(1_600) == []


async def test_people_whose_worker_died_before_telling_are_found_again_and_settled_ones_are_not(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "SETTLE_MS", 500)
    presence = store(redis, keys, SHORT_S)
    await presence.beat([("told", "d"), ("untold", "d"), ("back", "d")])
    await asyncio.sleep(SHORT_S + 0.01)
    assert len(await presence.sweep(1_600)) == 3
    await presence.settle(["told"])
    await store(redis, keys).beat([("back", "d")])
    assert await presence.sweep(1_600) == []
    await asyncio.sleep(0.51)
    assert [user for user, _ in await presence.sweep(1_600)] == ["untold"]
    await presence.settle([])


async def test_audiences_are_kept_from_the_first_beat_through_going_offline(redis: Redis, keys: Keys) -> None:
    presence = store(redis, keys, SHORT_S)
    await presence.beat([("u", "d")])
    await asyncio.gather(
        presence.set_audience("u", Audience(["c1"], ["f1", "f2"], ["b1"])),
        presence.set_audience("v", Audience([], ["f3"])),
    )
    await asyncio.sleep(SHORT_S + 0.01)
    await presence.sweep(1_600)
    assert await presence.audience(["u", "v", "w"]) == {
        "u": Audience(["c1"], ["f1", "f2"], ["b1"]),
        "v": Audience([], ["f3"]),
    }
    assert await presence.audience([]) == {}


async def test_devices_that_are_gone_do_not_pile_up_while_the_user_stays(redis: Redis, keys: Keys) -> None:
    quick, slow = store(redis, keys, 0.001), store(redis, keys)
    for n in range(40):
        await quick.beat([("u", f"gone{n}")])
    await asyncio.sleep(0.005)
    await slow.beat([("u", "stays")])
    (fields,) = await execute(redis, [("HKEYS", keys.presence_user("u"))])
    assert b"stays" in fields
    assert len(fields) < 20


async def test_five_hundred_sessions_at_once_are_a_few_round_trips(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client:
        presence = store(client, keys)
        await presence.beat([("first", "d")])
        sent: list[int] = []
        call = client.call

        async def counted(commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
            sent.append(len(commands))
            return await call(commands, timeout_s, waiting=waiting)

        client.call = counted
        await asyncio.gather(*[presence.beat([(f"u{n}", "d")]) for n in range(500)])
        assert len(sent) <= 2
        assert sum(sent) <= 500 + 2 * PRESENCE_SHARDS


async def test_redis_emptied_is_everyone_offline_until_the_next_beat_and_away_is_said(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        presence = store(client, keys)
        await presence.beat([("u", "d")])
        own_valkey.flush()
        assert await state_of(presence, "u") is OFFLINE
        assert (await presence.beat([("u", "d")])).came == ["u"]
        own_valkey.kill()
        for call in (presence.states(["u"]), presence.beat([("u", "d")]), presence.sweep(16)):
            with pytest.raises(ChatError) as caught:
                await call
            assert caught.value.code is Code.REDIS_UNAVAILABLE


BEAT_S = 0.6
"""So long that what is asked within it surely is, on a machine that does other things, too."""
DOUBT_S = BEAT_S * presence_module.DOUBT_HEARTBEATS


def quick_store(redis: Redis, keys: Keys) -> PresenceStore:
    return PresenceStore(redis, keys, PresenceSettings(heartbeat_interval_s=BEAT_S, offline_after_s=SHORT_S))


async def test_who_is_not_there_after_redis_was_emptied_is_unknown_until_all_have_beaten(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        presence = quick_store(client, keys)
        assert await state_of(presence, "u") is OFFLINE, "a new cluster is not one that was emptied"
        await asyncio.sleep(0.002)  # marks are told apart by their millisecond
        own_valkey.flush()
        assert await state_of(presence, "u") is PresenceState.UNKNOWN
        await asyncio.sleep(DOUBT_S)
        assert await state_of(presence, "u") is OFFLINE
        own_valkey.flush()
        assert await state_of(presence, "u") is PresenceState.UNKNOWN
        await presence.beat([("u", "d")])
        assert await state_of(presence, "u") is ONLINE
        await asyncio.sleep(DOUBT_S)
        assert await state_of(presence, "u") is OFFLINE


async def test_leases_that_nobody_could_renew_tell_nobody_off_line(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client:
        presence = quick_store(client, keys)
        with pytest.raises(ChatError):
            await execute(client, [("HGET", keys.base)])
        assert await state_of(presence, "u") is OFFLINE, "a refused command is no outage"
        await presence.beat([("u", "d")])
        await execute(client, [("CONFIG", "SET", "maxmemory", "1")])
        with pytest.raises(ChatError):
            await presence.beat([("u", "d")])
        await asyncio.sleep(SHORT_S)
        await execute(client, [("CONFIG", "SET", "maxmemory", "0")])
        assert await state_of(presence, "u") is PresenceState.UNKNOWN
        assert await presence.sweep(64) == []
        await presence.beat([("u", "d")])
        assert await state_of(presence, "u") is ONLINE
        await asyncio.sleep(DOUBT_S)
        assert await state_of(presence, "u") is OFFLINE
        assert [user for user, _ in await presence.sweep(64)] == ["u"]


async def test_a_sweep_marks_every_shard_so_that_first_questions_are_answered(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        presence = quick_store(client, keys)
        await presence.sweep(64)
        await asyncio.sleep(DOUBT_S)
        assert {entry.state for entry in await presence.states([f"u{n}" for n in range(200)])} == {OFFLINE}
