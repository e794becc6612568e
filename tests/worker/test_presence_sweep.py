"""Going offline is told to whom it concerns, and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from support.bus_pod import BusPod
from support.valkey import eventually

from chatkernel import presence as presence_module
from chatkernel.bus import Bus, Post, PresenceChange
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.keys import Keys
from chatkernel.presence import Audience, PresenceStore
from chatkernel.protocol import Presence, PresenceState, decode_server_json
from chatkernel.redis_client import Redis
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings
from chatkernel.storage.model import FriendAction, User
from chatkernel.storage.open import Store
from worker import presence_sweep as presence_sweep_module
from worker.presence_sweep import PresenceSweep

LEASE_S = 0.05


class FullDisk:
    """A store that refuses until it is repaired."""

    def __init__(self, store: Store) -> None:
        self._store, self.full = store, True

    async def touch_active(self, last_active_at: Mapping[str, int]) -> None:
        if self.full:
            raise ChatError(Code.STORAGE_FULL)
        await self._store.touch_active(dict(last_active_at))

    async def blocked_by(self, user_ids: Sequence[str]) -> dict[str, list[str]]:
        if self.full:
            raise ChatError(Code.STORAGE_FULL)
        return await self._store.blocked_by(user_ids)


def presence_of(redis: Redis, keys: Keys) -> PresenceStore:
    return PresenceStore(redis, keys, PresenceSettings(offline_after_s=LEASE_S))


def sweep_of(redis: Redis, keys: Keys, accounts: Any) -> PresenceSweep:
    bus = Bus(redis, keys, Routes(redis, keys, ""), "")
    return PresenceSweep(presence_of(redis, keys), bus, accounts, accounts)


async def online_and_gone(redis: Redis, keys: Keys, *users: str) -> None:
    presence = presence_of(redis, keys)
    await presence.beat([(user, "d") for user in users])
    for user in users:
        await presence.set_audience(user, Audience(["c"], ["friend"], ["kept"]))
    await asyncio.sleep(LEASE_S + 0.01)


async def test_watchers_members_and_friends_are_told_and_the_store_keeps_when(
    redis: Redis, keys: Keys, store: Store
) -> None:
    await store.create_user(User("u", "ann", "Ann", now_ms()), "hash")
    pods = [BusPod(redis, keys, name) for name in ("members", "friends", "watchers", "nobody")]
    for pod in pods:
        await pod.bus.open()
    await pods[0].routes.add(channels=["c"])
    await pods[1].routes.add(users=["friend"])
    await pods[2].routes.add(watched=["u"])
    await online_and_gone(redis, keys, "u")
    sweep = sweep_of(redis, keys, store)
    await sweep.step()
    for pod in pods[:3]:
        (change,) = await pod.received()
        assert isinstance(change, PresenceChange)
        assert (change.user_id, change.channel_ids, change.user_ids) == ("u", ["c"], ["friend"])
        frame = decode_server_json(change.frame)
        assert isinstance(frame, Presence)
        (entry,) = frame.entries
        assert entry.state is PresenceState.OFFLINE
    assert await pods[3].received() == []
    user = (await store.users(["u"]))["u"]
    assert user.last_active_at == entry.last_active_at
    assert abs((user.last_active_at or 0) - now_ms()) < 5_000
    assert sweep.swept == 1


async def test_who_was_blocked_since_the_audience_was_kept_is_not_told(
    redis: Redis, keys: Keys, store: Store
) -> None:
    for name in ("u", "friend"):
        await store.create_user(User(name, name, name, now_ms()), "hash")
    pod = BusPod(redis, keys, "a")
    await pod.start("c")
    await online_and_gone(redis, keys, "u")
    await store.friend_action("u", "friend", FriendAction.BLOCK, now_ms())
    await sweep_of(redis, keys, store).step()
    (change,) = await pod.received()
    assert isinstance(change, PresenceChange)
    assert change.hidden_from == ["friend"]


async def test_several_workers_tell_each_change_once(redis: Redis, keys: Keys, store: Store) -> None:
    pod = BusPod(redis, keys, "a")
    await pod.start("c")
    users = [f"u{n}" for n in range(60)]
    await online_and_gone(redis, keys, *users)
    await asyncio.gather(*[sweep_of(redis, keys, store).step() for _ in range(4)])
    told = [change.user_id for change in await pod.received() if isinstance(change, PresenceChange)]
    assert sorted(told) == sorted(users)


async def test_a_full_store_delays_what_is_kept_and_not_what_is_told(
    redis: Redis, keys: Keys, store: Store
) -> None:
    await store.create_user(User("u", "ann", "Ann", now_ms()), "hash")
    pod = BusPod(redis, keys, "a")
    await pod.start("c")
    await online_and_gone(redis, keys, "u")
    accounts = FullDisk(store)
    sweep = sweep_of(redis, keys, accounts)
    for _ in range(2):
        with pytest.raises(ChatError) as caught:
            await sweep.step()
        assert caught.value.code is Code.STORAGE_FULL
    (change,) = await pod.received()
    assert isinstance(change, PresenceChange)
    assert change.hidden_from == ["kept"]  # what is known while the store does not answer
    accounts.full = False
    await sweep.step()
    assert (await store.users(["u"]))["u"].last_active_at is not None


async def test_a_worker_that_died_before_telling_is_followed_by_one_that_tells(
    redis: Redis, keys: Keys, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "SETTLE_MS", 20)
    pod = BusPod(redis, keys, "a")
    await pod.start("c")
    await online_and_gone(redis, keys, "u")
    assert len(await presence_of(redis, keys).sweep(1_600)) == 1
    await asyncio.sleep(0.03)
    await sweep_of(redis, keys, store).step()
    (change,) = await pod.received()
    assert msgspec.structs.asdict(change)["user_id"] == "u"


class HeldBus(Bus):
    """Lets through so many posts, and then waits."""

    passes = 2

    async def publish(self, posts: Sequence[Post]) -> int:
        if self.passes <= 0:
            await asyncio.Event().wait()
        self.passes -= len(posts)
        return await super().publish(posts)


async def test_who_was_told_of_is_settled_while_others_are_still_being_told(
    redis: Redis, keys: Keys, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "SETTLE_MS", 20)
    monkeypatch.setattr(presence_sweep_module, "TOGETHER_MAX", 2)
    pod = BusPod(redis, keys, "a")
    await pod.start("c")
    users = [f"u{n}" for n in range(5)]
    await online_and_gone(redis, keys, *users)
    bus = HeldBus(redis, keys, Routes(redis, keys, ""), "")
    sweep = PresenceSweep(presence_of(redis, keys), bus, store, store)
    stepping = asyncio.create_task(sweep.step())

    async def two_are_told() -> bool:
        return sweep.swept == 2

    await eventually(two_are_told)
    told = {change.user_id for change in await pod.received() if isinstance(change, PresenceChange)}
    await asyncio.sleep(0.03)
    assert {user for user, _ in await presence_of(redis, keys).sweep(1_600)} == {*users} - told
    stepping.cancel()
