"""Who is online: leases of devices in Redis, by Redis' clock, spread over shards.

A person is online while any device's lease runs. Leases are read, not events counted, so the answer is right
without anybody's sweep; the sweep only tells those who watch. All of it can be lost: pods beat it full again.

Until they have, a lease that is not there says nothing. That is so for a while after Redis could not be written (this
process has noticed, for it asks something every second), and after it was emptied (the shard's mark is young). In a
cluster it is so of the people whose node that is, and the others are answered.

Every script has one key: those with several are refused while their slot moves to another node.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from chatkernel.batching import Coalescer
from chatkernel.errors import ChatError, Code
from chatkernel.keys import PRESENCE_MARK, PRESENCE_SHARDS, Keys
from chatkernel.protocol import PresenceEntry, PresenceState
from chatkernel.redis_client import (
    Redis,
    Script,
    ScriptCall,
    check_takes_writes,
    execute,
    execute_each,
    run_scripts,
    run_scripts_each,
)
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
_DEVICE = Script("presence_device")
_LEAVE = Script("presence_leave")
_LEFT = Script("presence_left")
_SETTLE = Script("presence_settle")
_SILENT = Script("presence_silent")
_STATES = Script("presence_states")
_SWEEP = Script("presence_sweep")


class Audience(Struct, frozen=True, array_like=True):
    """Whom to tell when a person comes or goes: members of these (small) channels, and these people; but nobody
    whom the person has blocked."""

    channel_ids: list[str]
    user_ids: list[str]
    hidden_from: list[str] = []


class Beats(NamedTuple):
    """`came`: users who came online, each told to one caller only. `failed`: users whose leases were not, or not
    surely, renewed, because their node of a cluster is away."""

    came: list[str]
    failed: list[str]


LEFT_SLACK_MS = 1_000
"""A device's lease and its user's are written one after the other."""

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
        self._beats: Coalescer[Sequence[DeviceRef], Beats] = Coalescer(self._flush_beats)
        self._audiences: Coalescer[tuple[str, bytes], ChatError | None] = Coalescer(self._flush_audiences)

    async def check(self) -> None:
        """Whether beats will be taken."""
        await check_takes_writes(self._redis)

    async def beat(self, devices: Sequence[DeviceRef]) -> Beats:
        """Renew the leases of (user id, device id) pairs. Raises when that failed for all."""
        beats = await self._beats.call(devices) if devices else Beats([], [])
        if devices and len(beats.failed) == len(devices):
            raise ChatError(Code.REDIS_UNAVAILABLE)
        return beats

    async def leave(self, user_id: str, device_id: str) -> bool:
        """The device logged out (a lost connection is no reason: its lease runs out by itself), and was last active
        now. True: the user went offline by it, and it is for the caller to tell."""
        leave = _LEAVE.call((self._keys.presence_user(user_id),), (device_id, KEPT_MS))
        ((other_ends, its_end),) = await run_scripts(self._redis, [leave])
        known = max(other_ends, its_end) + LEFT_SLACK_MS
        left = _LEFT.call((self._expiry_of(user_id),), (user_id, other_ends, known))
        (went,) = await run_scripts(self._redis, [left])
        return bool(went)

    async def forget(self, user_id: str) -> None:
        """Everything that is here about the person; who is to hear of it has been told."""
        commands: list[Command] = [
            ("ZREM", self._expiry_of(user_id), user_id),
            ("DEL", self._keys.presence_user(user_id)),
        ]
        await execute(self._redis, commands)

    async def states(self, user_ids: Sequence[str]) -> list[PresenceEntry]:
        """ONLINE or OFFLINE now, or UNKNOWN while a lease may only not be there yet, or cannot be read, in the order
        asked. `last_active_at` is None where Redis does not know it. Raises when nobody's can be read."""
        users = list(dict.fromkeys(user_ids))
        active, online = await asyncio.gather(
            execute_each(self._redis, [("HGET", self._keys.presence_user(user), "") for user in users]),
            self._online(users),
        )
        found = {
            user: PresenceEntry(
                user, online[user], None if last is None or isinstance(last, ChatError) else int(last)
            )
            for user, last in zip(users, active, strict=True)
        }
        return [found[user] for user in user_ids]

    async def sweep(self, limit: int) -> list[tuple[str, int]]:
        """At most `limit` people (or one per shard, if that is more) whose last lease ran out, with last active
        at (Unix ms; 0 if unknown). Each is given to one caller; if that one dies before `settle`, to another after
        SETTLE_MS. Nobody while leases may have run out only because nobody could renew them. Raises when all shards
        are away."""
        share = min(SCRIPT_DEVICES_MAX, max(1, limit // PRESENCE_SHARDS))
        swept = await run_scripts_each(
            self._redis,
            [
                _SWEEP.call(
                    (self._keys.presence_expiry(shard),),
                    (PRESENCE_MARK, 0 if self._in_doubt(shard) else share, SETTLE_MS),
                )
                for shard in range(PRESENCE_SHARDS)
            ],
        )
        _raise_if_all_failed(swept)
        users = [user.decode() for some in swept if not isinstance(some, ChatError) for user in some]
        if not users:
            return []
        # Who cannot be read now is found again after SETTLE_MS.
        last = await run_scripts_each(
            self._redis, [_SILENT.call((self._keys.presence_user(user),), ()) for user in users]
        )
        return [
            (user, int(at or 0))
            for user, at in zip(users, last, strict=True)
            if not isinstance(at, ChatError)
        ]

    async def settle(self, user_ids: Sequence[str]) -> None:
        """The watchers of these swept people have been told."""
        await run_scripts(
            self._redis,
            [
                _SETTLE.call((self._keys.presence_expiry(shard),), users)
                for shard, users in self._parts(user_ids)
            ],
        )

    async def set_audience(self, user_id: str, audience: Audience) -> None:
        """Remember whom to tell about this person; replaces what was there."""
        error = await self._audiences.call((user_id, _encoder.encode(audience)))
        if error is not None:
            raise error

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
            self._redis,
            [
                ("ZCOUNT", self._keys.presence_expiry(shard), 1, f"({PRESENCE_MARK}")
                for shard in range(PRESENCE_SHARDS)
            ],
        )
        return sum(counts)

    async def _online(self, users: Sequence[str]) -> dict[str, PresenceState]:
        parts = self._parts(users)
        doubted = [self._in_doubt(shard) for shard, _ in parts]
        replies = await run_scripts_each(
            self._redis,
            [
                _STATES.call((self._keys.presence_expiry(shard),), (PRESENCE_MARK, *part))
                for shard, part in parts
            ],
        )
        _raise_if_all_failed(replies)
        found: dict[str, PresenceState] = {}
        for (shard, part), reply, is_doubted in zip(parts, replies, doubted, strict=True):
            if isinstance(reply, ChatError):
                found.update(dict.fromkeys(part, PresenceState.UNKNOWN))
                continue
            now_ms, since_ms, *online = reply
            doubtful = is_doubted or self._was_emptied(shard, since_ms, now_ms)
            absent = PresenceState.UNKNOWN if doubtful else PresenceState.OFFLINE
            for user, is_online in zip(part, online, strict=True):
                found[user] = PresenceState.ONLINE if is_online else absent
        return found

    def _in_doubt(self, shard: int) -> bool:
        """Whether its server was away, or refused, lately."""
        return time.monotonic() - self._redis.failed_at(self._keys.presence_expiry(shard)) < self._doubt_s

    def _was_emptied(self, shard: int, since_ms: int, now_ms: int) -> bool:
        """Whether the shard was made anew lately. In a new cluster all are young: what a process finds so at its
        beginning, and not for the second time, was not emptied."""
        if now_ms - since_ms >= self._doubt_s * 1000:
            self._kept_since[shard] = since_ms
            return False
        is_another = self._kept_since.setdefault(shard, since_ms) != since_ms
        return is_another or time.monotonic() - self._begun_at >= self._doubt_s

    async def _flush_beats(self, calls: Sequence[Sequence[DeviceRef]]) -> list[Beats]:
        by_shard: dict[int, list[_Beat]] = defaultdict(list)
        for caller, devices in enumerate(calls):
            for user, device in devices:
                by_shard[self._keys.presence_shard(user)].append(_Beat(caller, user, device))
        parts = [
            (shard, beats[start : start + SCRIPT_DEVICES_MAX])
            for shard, beats in by_shard.items()
            for start in range(0, len(beats), SCRIPT_DEVICES_MAX)
        ]
        scripts: list[ScriptCall] = []
        for shard, part in parts:
            scripts += (
                _DEVICE.call((self._keys.presence_user(user),), (device, self._lease_ms, KEPT_MS))
                for _, user, device in part
            )
            # After its devices: who logs out in between finds that another device is there.
            users = [beat.user for beat in part]
            scripts.append(_BEAT.call((self._keys.presence_expiry(shard),), (self._lease_ms, *users)))
        replies = iter(await run_scripts_each(self._redis, scripts))
        outcomes = [Beats([], []) for _ in calls]
        for _, part in parts:
            written = [next(replies) for _ in part]
            came = next(replies)
            for beat, reply in zip(part, written, strict=True):
                if isinstance(reply, ChatError) or isinstance(came, ChatError):
                    outcomes[beat.caller].failed.append(beat.user)
            for position in () if isinstance(came, ChatError) else came:
                outcomes[part[position].caller].came.append(part[position].user)
        return outcomes

    async def _flush_audiences(self, items: Sequence[tuple[str, bytes]]) -> list[ChatError | None]:
        commands: list[Command] = []
        for user, data in items:
            key = self._keys.presence_user(user)
            commands += (("HSET", key, "*", data), ("PEXPIRE", key, KEPT_MS))
        replies = await execute_each(self._redis, commands)
        return [reply if isinstance(reply, ChatError) else None for reply in replies[::2]]

    def _expiry_of(self, user_id: str) -> str:
        return self._keys.presence_expiry(self._keys.presence_shard(user_id))

    def _parts(self, user_ids: Sequence[str]) -> list[tuple[int, list[str]]]:
        return [
            (shard, users[start : start + SCRIPT_DEVICES_MAX])
            for shard, users in self._by_shard(user_ids)
            for start in range(0, len(users), SCRIPT_DEVICES_MAX)
        ]

    def _by_shard(self, user_ids: Sequence[str]) -> list[tuple[int, list[str]]]:
        by_shard: dict[int, list[str]] = defaultdict(list)
        for user in dict.fromkeys(user_ids):
            by_shard[self._keys.presence_shard(user)].append(user)
        return list(by_shard.items())


class _Beat(NamedTuple):
    caller: int
    user: str
    device: str


def _raise_if_all_failed(replies: Sequence[Any]) -> None:
    if replies and all(isinstance(reply, ChatError) for reply in replies):
        raise replies[0]
