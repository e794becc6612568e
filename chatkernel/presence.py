"""Who is online: leases of devices in Redis, by Redis' clock, spread over shards.

A person is online while any device's lease runs. Leases are read, not events counted, so the answer is right
without anybody's sweep; the sweep only tells those who watch. All of it can be lost: pods beat it full again.

Until they have, a lease that is not there says nothing. That is so for a while after Redis could not be written (this
process has noticed, for it asks something every second), and after it was emptied (the shard's mark is young).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec import Struct

from chatkernel.batching import Coalescer
from chatkernel.keys import PRESENCE_SHARDS, Keys
from chatkernel.protocol import PresenceEntry, PresenceState
from chatkernel.redis_client import Redis, Script, ScriptCall, execute, run_scripts
from chatkernel.redis_link import Command
from chatkernel.settings import PresenceSettings

DeviceRef: TypeAlias = tuple[str, str]
"""(user id, device id)"""

KEPT_MS = 30 * 86_400_000
"""How long after the last beat a person's last_active_at is answered from Redis."""

SETTLE_MS = 10_000
"""A person whom a sweep took and whose watchers were not told by then is taken by a sweep again."""

SCRIPT_DEVICES_MAX = 256
"""Devices (or people) per script, so that none holds Redis up for more than about a millisecond."""

DOUBT_HEARTBEATS = 1.5
"""Every client beats within one, and its pod passes that on within a quarter of one."""

_BEAT = Script("presence_beat")
_LEAVE = Script("presence_leave")
_STATES = Script("presence_states")
_SWEEP = Script("presence_sweep")


class Audience(Struct, frozen=True, array_like=True):
    """Whom to tell when a person comes or goes: members of these (small) channels, and these people; but nobody
    whom the person has blocked."""

    channel_ids: list[str]
    user_ids: list[str]
    hidden_from: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_audience_decoder = msgspec.msgpack.Decoder(Audience)


class PresenceStore:
    """Every method raises ChatError(REDIS_UNAVAILABLE). Beats, and audiences, of many sessions that arrive
    together are one round trip."""

    def __init__(self, redis: Redis, keys: Keys, settings: PresenceSettings) -> None:
        self._redis, self._keys = redis, keys
        self._doubt_s = settings.heartbeat_interval_s * DOUBT_HEARTBEATS
        self._begun_at = time.monotonic()
        self._kept_since: dict[int, int] = {}
        """Of shards that were asked: their marks (Unix ms of Redis' clock)."""
        self._lease_ms = int(settings.offline_after_s * 1000)
        self._beats: Coalescer[Sequence[DeviceRef], list[str]] = Coalescer(self._flush_beats)
        self._audiences: Coalescer[tuple[str, bytes], None] = Coalescer(self._flush_audiences)

    async def beat(self, devices: Sequence[DeviceRef]) -> list[str]:
        """Renew the leases of (user id, device id) pairs; the users who came online by it, each told to one
        caller only."""
        return await self._beats.call(devices) if devices else []

    async def leave(self, user_id: str, device_id: str, now: int) -> bool:
        """The device logged out (a lost connection is no reason: its lease runs out by itself). `now`: Unix
        ms, kept as last active at. True: the user went offline by it, and it is for the caller to tell."""
        shard = self._keys.presence_shard(user_id)
        keys = (*self._tables(shard), self._keys.presence_user(user_id))
        (went,) = await run_scripts(self._redis, [_LEAVE.call(keys, (user_id, device_id, now, KEPT_MS))])
        return bool(went)

    async def states(self, user_ids: Sequence[str]) -> list[PresenceEntry]:
        """ONLINE or OFFLINE now, or UNKNOWN while a lease may only not be there yet, in the order asked.
        `last_active_at` is None where Redis does not know it."""
        doubted = self._in_doubt()
        by_shard = [
            (shard, users[start : start + SCRIPT_DEVICES_MAX])
            for shard, users in self._by_shard(user_ids)
            for start in range(0, len(users), SCRIPT_DEVICES_MAX)
        ]
        replies = await run_scripts(
            self._redis,
            [
                _STATES.call(
                    (
                        self._keys.presence_expiry(shard),
                        self._keys.presence_mark(shard),
                        *map(self._keys.presence_user, users),
                    ),
                    users,
                )
                for shard, users in by_shard
            ],
        )
        found: dict[str, PresenceEntry] = {}
        for (shard, users), (now_ms, since_ms, *flat) in zip(by_shard, replies, strict=True):
            doubtful = doubted or self._was_emptied(shard, since_ms, now_ms)
            absent = PresenceState.UNKNOWN if doubtful else PresenceState.OFFLINE
            for user, online, last in zip(users, flat[::2], flat[1::2], strict=True):
                state = PresenceState.ONLINE if online else absent
                found[user] = PresenceEntry(user, state, None if last is None else int(last))
        return [found[user] for user in user_ids]

    async def sweep(self, limit: int) -> list[tuple[str, int]]:
        """At most `limit` people (or one per shard, if that is more) whose last lease ran out, with last active
        at (Unix ms; 0 if unknown). Each is given to one caller; if that one dies before `settle`, to another after
        SETTLE_MS. Nobody while leases may have run out only because nobody could renew them."""
        share = 0 if self._in_doubt() else max(1, limit // PRESENCE_SHARDS)
        replies = await run_scripts(
            self._redis,
            [
                _SWEEP.call(
                    (*self._tables(shard), self._keys.presence_mark(shard)),
                    (share, self._keys.presence_users(shard), SETTLE_MS),
                )
                for shard in range(PRESENCE_SHARDS)
            ],
        )
        return [
            (user.decode(), int(last or 0))
            for flat in replies
            for user, last in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def settle(self, user_ids: Sequence[str]) -> None:
        """The watchers of these swept people have been told."""
        commands: list[Command] = [
            ("ZREM", self._keys.presence_unsettled(shard), *users)
            for shard, users in self._by_shard(user_ids)
        ]
        if commands:
            await execute(self._redis, commands)

    async def set_audience(self, user_id: str, audience: Audience) -> None:
        """Remember whom to tell about this person; replaces what was there."""
        await self._audiences.call((user_id, _encoder.encode(audience)))

    async def audience(self, user_ids: Sequence[str]) -> dict[str, Audience]:
        """Whom to tell, for those of the people of whom it is known."""
        if not user_ids:
            return {}
        found = await execute(
            self._redis, [("HGET", self._keys.presence_user(user), "*") for user in user_ids]
        )
        return {
            user: _audience_decoder.decode(data)
            for user, data in zip(user_ids, found, strict=True)
            if data is not None
        }

    async def online(self) -> int:
        """How many people are online, to within a sweep."""
        counts = await execute(
            self._redis, [("ZCARD", self._keys.presence_expiry(shard)) for shard in range(PRESENCE_SHARDS)]
        )
        return sum(counts)

    def _in_doubt(self) -> bool:
        """Whether Redis was away, or refused, lately."""
        return time.monotonic() - self._redis.guard.failed_at < self._doubt_s

    def _was_emptied(self, shard: int, since_ms: int, now_ms: int) -> bool:
        """Whether the shard was made anew lately. In a new cluster all are young: what a process finds so at its
        beginning, and not for the second time, was not emptied."""
        if now_ms - since_ms >= self._doubt_s * 1000:
            self._kept_since[shard] = since_ms
            return False
        is_another = self._kept_since.setdefault(shard, since_ms) != since_ms
        return is_another or time.monotonic() - self._begun_at >= self._doubt_s

    async def _flush_beats(self, calls: Sequence[Sequence[DeviceRef]]) -> list[list[str]]:
        by_shard: dict[int, list[tuple[int, str, str]]] = defaultdict(list)
        for caller, devices in enumerate(calls):
            for user, device in devices:
                by_shard[self._keys.presence_shard(user)].append((caller, user, device))
        parts = [
            (shard, items[start : start + SCRIPT_DEVICES_MAX])
            for shard, items in by_shard.items()
            for start in range(0, len(items), SCRIPT_DEVICES_MAX)
        ]
        replies = await run_scripts(self._redis, [self._beat_call(shard, items) for shard, items in parts])
        came: list[list[str]] = [[] for _ in calls]
        for (_, items), positions in zip(parts, replies, strict=True):
            for position in positions:
                caller, user, _ = items[position]
                came[caller].append(user)
        return came

    def _beat_call(self, shard: int, items: Sequence[tuple[int, str, str]]) -> ScriptCall:
        keys = [*self._tables(shard), *(self._keys.presence_user(user) for _, user, _ in items)]
        args: list[str | int] = [self._lease_ms, KEPT_MS]
        for _, user, device in items:
            args += (user, device)
        return _BEAT.call(keys, args)

    async def _flush_audiences(self, items: Sequence[tuple[str, bytes]]) -> list[None]:
        commands: list[Command] = []
        for user, data in items:
            key = self._keys.presence_user(user)
            commands += (("HSET", key, "*", data), ("PEXPIRE", key, KEPT_MS))
        await execute(self._redis, commands)
        return [None] * len(items)

    def _tables(self, shard: int) -> tuple[str, str]:
        return self._keys.presence_expiry(shard), self._keys.presence_unsettled(shard)

    def _by_shard(self, user_ids: Sequence[str]) -> list[tuple[int, list[str]]]:
        by_shard: dict[int, list[str]] = defaultdict(list)
        for user in dict.fromkeys(user_ids):
            by_shard[self._keys.presence_shard(user)].append(user)
        return list(by_shard.items())
