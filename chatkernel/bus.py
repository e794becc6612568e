"""The bus between pods: one stream per pod, written only by pods that have something for it.

An entry of a stream is a batch of envelopes. Memory: a stream holds what its reader has not passed and a little
more, at most about STREAM_ENTRIES_MAX entries of at most ENTRY_MAX_BYTES (or one larger envelope) each, and goes with
its pod's lease.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from chatkernel.batching import Coalescer
from chatkernel.bus_entries import PIPELINE_MAX_BYTES, Batch, Entries, decode_entry
from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import SOCKET_TIMEOUT_S, Redis, check_takes_writes, execute
from chatkernel.redis_link import Command
from chatkernel.routes import Routes

STREAM_ENTRIES_MAX = 4_096
"""Entries that a stream keeps for a reader that lags; beyond it the reader has a gap and its sessions
sync."""

STREAM_KEPT_S = 600
"""Without its reader a stream goes after this: that of a pod that died before it was registered, or after it left, is
nobody's to clear away. Renewed whenever nothing comes, and with each trimming."""

ADDRESSES_MAX = 5_000
"""Posts for more than this go out in several rounds, one after the other: each keeps the loop for some milliseconds,
and what else the process has to do, its lease above all, has its turn in between."""

READ_ENTRIES_MAX = 128
TRIM_ENTRIES = 256
TRIM_BYTES = 1024 * 1024
"""When a reader has passed so much, or nothing comes, what it has passed is taken off the stream."""
BLOCK_MS = 500
"""How long a read waits for an entry; it looks at `stop`, and whether the stream is still there, this
often."""

RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 1.0

log = logging.getLogger(__name__)


class EventEnvelope(Struct, frozen=True, array_like=True, tag=1):
    """An event of a channel's log. `frame` is its JSON; `membership`: it changes who is in the channel."""

    channel_id: str
    seq: int
    frame: bytes
    membership: bool


class ChannelFrame(Struct, frozen=True, array_like=True, tag=2):
    """A frame (JSON) for everyone in a channel that is in no log: typing, receipts."""

    channel_id: str
    frame: bytes


class UserFrame(Struct, frozen=True, array_like=True, tag=3):
    """A frame (JSON) for all devices of people."""

    user_ids: list[str]
    frame: bytes


class Revoked(Struct, frozen=True, array_like=True, tag=4):
    """Close these devices' sockets at once."""

    user_id: str
    device_ids: list[str]


class Poke(Struct, frozen=True, array_like=True, tag=5):
    """Something may have been appended to these channels unannounced: compare heads with the store, and
    heal."""

    channel_ids: list[str]


class PresenceChange(Struct, frozen=True, array_like=True, tag=6):
    """A Presence frame (JSON) about `user_id`, for the members of these channels, these people, and who watches; not
    for those in `hidden_from`, by whatever way it would reach them."""

    frame: bytes
    user_id: str
    channel_ids: list[str]
    user_ids: list[str]
    hidden_from: list[str] = []


class BlocksChanged(Struct, frozen=True, array_like=True, tag=7):
    """Forget what is remembered of who has blocked whom among these people."""

    user_ids: list[str]


Envelope: TypeAlias = (
    EventEnvelope | ChannelFrame | UserFrame | Revoked | Poke | PresenceChange | BlocksChanged
)


class Post(Struct, frozen=True):
    """An envelope and its addresses: the pods that have a route of any of them get it, once each."""

    envelope: Envelope
    channels: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()


def end_of_round(posts: Sequence[Post], start: int = 0) -> int:
    """The posts from `start` up to this are for no more than ADDRESSES_MAX together, or are one."""
    addresses = 0
    for at in range(start, len(posts)):
        post = posts[at]
        addresses += len(post.channels) + len(post.users) + len(post.watched)
        if addresses > ADDRESSES_MAX and at > start:
            return at
    return len(posts)


class NotPublished(ChatError):
    """REDIS_UNAVAILABLE: these posts have not, or not surely, reached every pod that they are for."""

    def __init__(self, posts: Sequence[Post]) -> None:
        super().__init__(Code.REDIS_UNAVAILABLE)
        self.posts = posts


class GapReason(StrEnum):
    RECONNECTED = "reconnected"
    """Redis was away: others may not have been able to write."""
    TRIMMED = "trimmed"
    """This reader lagged behind the stream's bound."""
    VANISHED = "vanished"
    """The stream was gone: Redis was emptied, or this pod was taken for dead."""
    UNREADABLE = "unreadable"
    """An entry was no list of envelopes."""


class BusGap(Struct, frozen=True):
    """Something may have been missed: have all sessions compare with the store. What comes after it is
    complete again (the pod's routes are in Redis anew)."""

    reason: GapReason


_Address: TypeAlias = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Channels, users, watched."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Envelope])
_one_decoder = msgspec.msgpack.Decoder(Envelope)


class Bus:
    """Publishes for any service; reads for a chat pod (`pod` is "" for services that have no stream)."""

    def __init__(
        self, redis: Redis, keys: Keys, routes: Routes, pod: str, random: Random | None = None
    ) -> None:
        self._redis, self._keys, self._routes, self._pod = redis, keys, routes, pod
        self._random = random or Random()
        # Unbounded in items on purpose: all that waited goes out together, or fails together, so that an
        # outage costs each caller one time-out and not a queue of them.
        self._publishing: Coalescer[Sequence[Post], _Written] = Coalescer(self._flush, max_items=1 << 30)
        self._position: bytes | None = None
        self._passed_entries = self._passed_bytes = 0
        """Read and not taken off the stream yet."""
        self._trims = False

    async def publish(self, posts: Sequence[Post]) -> int:
        """Write the posts to the streams of the pods they are for, this pod excepted; how many entries that
        took.

        Two round trips, resolve and then write, for up to a thousand addresses; some more for each thousand
        more. Posts arrive in the order published. Calls that arrive together are one, counted for the first. Raises
        NotPublished: of a cluster a node may be away, which holds up only what has to do with it.
        """
        if not posts:
            return 0
        entries, failed, error = await self._publishing.call(posts)
        if failed:
            raise NotPublished(failed) from error
        return entries

    async def check(self) -> None:
        """Raises ChatError(REDIS_UNAVAILABLE) unless every server takes what is published."""
        await check_takes_writes(self._redis)

    async def open(self) -> None:
        """Make this pod's stream, and take its end as where reading starts. Before routes are registered, so
        that nothing sent by them is missed. Raises ChatError(REDIS_UNAVAILABLE)."""
        # The entry is empty: it makes the stream, and its id is the position. Others never make a stream
        # (NOMKSTREAM), so no stream outlives its pod and a stream that is gone stays gone until its owner
        # notices.
        stream = self._keys.stream(self._pod)
        self._position, _ = await execute(
            self._redis,
            [
                ("XADD", stream, "MAXLEN", "~", STREAM_ENTRIES_MAX, "*", "e", ""),
                ("EXPIRE", stream, STREAM_KEPT_S),
            ],
        )

    async def read(self, stop: asyncio.Event) -> AsyncIterator[list[Envelope] | BusGap]:
        """Batches from this pod's stream until `stop` is set (seen within BLOCK_MS) or the task is cancelled.

        Opens the stream when `open` was not called. Lives through outages; never raises ChatError.
        """
        delay_s = RECONNECT_MIN_S
        failed = self._position is None
        while not stop.is_set():
            try:
                if failed:
                    gap = await self._resume() or BusGap(GapReason.RECONNECTED)
                    failed, delay_s = False, RECONNECT_MIN_S
                    yield gap
                for item in await self._read_once():
                    yield item
            except ChatError as error:
                if not failed:
                    log.warning("bus: lost Redis", extra={"error": str(error)})
                failed = True
                await _pause(stop, delay_s * (0.5 + self._random.random() / 2))
                delay_s = min(RECONNECT_MAX_S, delay_s * 2)

    async def _read_once(self) -> list[list[Envelope] | BusGap]:
        before = self._position
        assert before is not None  # noqa: S101 - `read` has opened the stream
        entries = await self._xread(before)
        if not entries:
            self._trims = self._passed_entries > 0
            gap = None if await self._there() else await self._resume()
            return [gap] if gap else []
        out: list[list[Envelope] | BusGap] = []
        # Trimming takes the oldest and leaves at least STREAM_ENTRIES_MAX entries, so entries that we had not
        # read can only be missing before a full batch: then see whether the last one we had read is still
        # there.
        if len(entries) >= READ_ENTRIES_MAX and not await self._has(before):
            out.append(BusGap(GapReason.TRIMMED))
        envelopes: list[Envelope] = []
        unreadable = 0
        for _, fields in entries:
            self._passed_bytes += len(fields[1])
            found = decode_entry(fields[1], _decoder, _one_decoder) if fields[1] else []
            unreadable += found is None
            envelopes += found or ()
        if unreadable:
            log.error("bus: unreadable entries", extra={"entries": unreadable})
            out.append(BusGap(GapReason.UNREADABLE))
        if envelopes:
            out.append(envelopes)
        self._position = entries[-1][0]
        self._passed_entries += len(entries)
        self._trims = self._passed_entries >= TRIM_ENTRIES or self._passed_bytes >= TRIM_BYTES
        return out

    async def _xread(self, after: bytes) -> list[tuple[bytes, list[bytes]]]:
        stream = self._keys.stream(self._pod)
        commands: list[Command] = [
            ("XREAD", "COUNT", READ_ENTRIES_MAX, "BLOCK", BLOCK_MS, "STREAMS", stream, after)
        ]
        if self._trims:
            # `after` itself stays: that it is there tells that nothing after it was trimmed by the writers' cap.
            commands[:0] = [("XTRIM", stream, "MINID", "~", after), ("EXPIRE", stream, STREAM_KEPT_S)]
            self._passed_entries = self._passed_bytes = 0
            self._trims = False
        replies = await execute(self._redis, commands, BLOCK_MS / 1000 + SOCKET_TIMEOUT_S, waiting=True)
        return [] if replies[-1] is None else replies[-1][0][1]

    async def _has(self, entry_id: bytes) -> bool:
        (found,) = await execute(
            self._redis, [("XRANGE", self._keys.stream(self._pod), entry_id, entry_id, "COUNT", 1)]
        )
        return bool(found)

    async def _there(self) -> bool:
        (there,) = await execute(self._redis, [("EXPIRE", self._keys.stream(self._pod), STREAM_KEPT_S)])
        return bool(there)

    async def _last(self) -> bytes | None:
        """The id of the newest entry."""
        (found,) = await execute(
            self._redis, [("XREVRANGE", self._keys.stream(self._pod), "+", "-", "COUNT", 1)]
        )
        return found[0][0] if found else None

    async def _resume(self) -> BusGap | None:
        """Before anybody is told of a gap, what follows it must come: the stream is there, and the routes."""
        last = None if self._position is None else await self._last()
        if last is None:
            await self.open()
        elif self._position is not None and _order(last) < _order(self._position):
            # A replica was promoted that had not got everything, or Redis came back with old data. Ids are by the
            # clock of whoever has the stream now: those to come may well be before what we had read.
            self._position = last
        await self._routes.reassert()
        return BusGap(GapReason.VANISHED) if last is None else None

    async def _flush(self, calls: Sequence[Sequence[Post]]) -> list[_Written]:
        posts = [post for call in calls for post in call]
        failures: dict[int, ChatError] = {}
        written = start = 0
        while start < len(posts):
            end = end_of_round(posts, start)
            written += await self._round(posts[start:end], start, failures)
            start = end
        if not failures:
            return [_Written(written)] + [_Written(0)] * (len(calls) - 1)
        error = next(iter(failures.values()))
        outcomes: list[_Written] = []
        start = 0
        for call in calls:
            failed = [post for at, post in enumerate(call, start) if at in failures]
            outcomes.append(_Written(0 if start else written, failed, error))
            start += len(call)
        return outcomes

    async def _round(self, posts: Sequence[Post], start: int, failures: dict[int, ChatError]) -> int:
        """How many entries were written; the positions of posts that some pod did not get go into `failures`, counted
        on from `start`."""
        failed: dict[int, ChatError] = {}
        written = await self._write(posts, await self._destinations(posts, failed), failed)
        failures.update((start + at, error) for at, error in failed.items())
        return written

    async def _write(
        self, posts: Sequence[Post], by_pod: dict[str, list[int]], failures: dict[int, ChatError]
    ) -> int:
        """How many entries were written; the positions of posts that some pod did not get go into `failures`."""
        entries = Entries([_encoder.encode(post.envelope) for post in posts])
        batch = Batch()
        written = 0
        for pod, wanted in by_pod.items():
            for positions, payload in entries.of(tuple(wanted)):
                if batch.commands and batch.size + len(payload) > PIPELINE_MAX_BYTES:
                    written += await batch.send(self._redis, failures)
                    batch = Batch()
                batch.add(self._xadd(pod, payload), positions, len(payload))
        return written + await batch.send(self._redis, failures)

    async def _destinations(
        self, posts: Sequence[Post], failures: dict[int, ChatError]
    ) -> dict[str, list[int]]:
        """For each pod the positions of the posts that are for it, in order; those of posts of which not all pods are
        known go into `failures`."""
        # Posts that arrive together are mostly for a few addresses: what follows is paid per address.
        addressed: dict[_Address, list[int]] = {}
        for index, post in enumerate(posts):
            addressed.setdefault((post.channels, post.users, post.watched), []).append(index)
        channels = list(dict.fromkeys(channel for address in addressed for channel in address[0]))
        users = list(dict.fromkeys(user for address in addressed for user in address[1]))
        watched = list(dict.fromkeys(user for address in addressed for user in address[2]))
        resolved = iter(await self._routes.resolve(channels, users, watched))
        of_channel = dict(zip(channels, resolved, strict=False))
        of_user = dict(zip(users, resolved, strict=False))
        of_watched = dict(zip(watched, resolved, strict=False))
        by_pod: dict[str, list[int]] = defaultdict(list)
        for address, indexes in addressed.items():
            pods: set[str] = set()
            for found in (
                *[of_channel[channel] for channel in address[0]],
                *[of_user[user] for user in address[1]],
                *[of_watched[user] for user in address[2]],
            ):
                if isinstance(found, ChatError):
                    failures.update(dict.fromkeys(indexes, found))
                else:
                    pods |= found
            pods.discard(self._pod)
            for pod in pods:
                by_pod[pod] += indexes
        if len(addressed) > 1:
            for indexes in by_pod.values():
                indexes.sort()
        return by_pod

    def _xadd(self, pod: str, payload: bytes) -> Command:
        stream = self._keys.stream(pod)
        return ("XADD", stream, "NOMKSTREAM", "MAXLEN", "~", STREAM_ENTRIES_MAX, "*", "e", payload)


class _Written(NamedTuple):
    """Of one call: entries written for it, its posts that did not get everywhere, and why."""

    entries: int
    failed: Sequence[Post] = ()
    error: ChatError | None = None


def _order(entry_id: bytes) -> tuple[int, int]:
    ms, _, number = entry_id.partition(b"-")
    return int(ms), int(number)


async def _pause(stop: asyncio.Event, delay_s: float) -> None:
    try:
        async with asyncio.timeout(delay_s):
            await stop.wait()
    except TimeoutError:
        pass
