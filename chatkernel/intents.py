"""Intents: the channels a pod may have appended to without having told the other pods yet.

If the pod dies in between, the reaper reads them here and has those channels looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute, execute_each, scan

REFRESH_S = 0.25
"""A busy channel's intent is written again this often and not for each append: should Redis be emptied, that is for
how long it may be missing."""
FAILED_S = 30.0
"""An append that was not announced by then, nor tried again, has failed: the store's time-outs are shorter."""
KEEP_S = 1.0
"""How long after its last append was announced a channel stays noted: that costs whoever looks a look, and saves
Redis two round trips for each append of a busy channel."""


class _Begun(NamedTuple):
    append: int
    at_s: float


class Ledger:
    """Which intents this pod has in Redis, and which of them may go. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._noted: OrderedDict[str, float] = OrderedDict()
        """When each was begun to be written, the longest ago first."""
        self._to_write: dict[str, float] = {}
        self._unannounced: OrderedDict[str, _Begun] = OrderedDict()
        """Channels whose last append has not been stored or not been announced, the longest ago first."""
        self._appends = 0

    def begin(self, channel_ids: Iterable[str], now_s: float) -> bool:
        """Appends are on their way to the store; whether there is something to write for it."""
        self._appends += 1
        for channel_id in channel_ids:
            self._unannounced[channel_id] = _Begun(self._appends, now_s)
            self._unannounced.move_to_end(channel_id)
            if now_s - self._noted.get(channel_id, -REFRESH_S) >= REFRESH_S:
                self._to_write[channel_id] = now_s
        return bool(self._to_write)

    def take(self) -> dict[str, float]:
        """What is to be written now."""
        taken, self._to_write = self._to_write, {}
        return taken

    def written(self, taken: dict[str, float]) -> None:
        self._noted.update(taken)
        for channel_id in taken:
            self._noted.move_to_end(channel_id)

    def mark(self, channel_ids: Iterable[str]) -> dict[str, int]:
        """Of channels whose appends so far are stored: what to say once they are announced."""
        return {c: self._unannounced[c].append for c in channel_ids if c in self._unannounced}

    def announced(self, marks: dict[str, int]) -> None:
        for channel_id, append in marks.items():
            begun = self._unannounced.get(channel_id)
            if begun is not None and begun.append == append:
                del self._unannounced[channel_id]

    def failed(self, now_s: float) -> dict[str, int]:
        """Channels whose last append will not be announced any more, and may have been stored all the same: what to
        say once somebody was told to look."""
        marks = {}
        for channel_id, begun in self._unannounced.items():
            if now_s - begun.at_s < FAILED_S:
                break
            marks[channel_id] = begun.append
        return marks

    def settled(self, now_s: float) -> list[str]:
        """Channels to strike off."""
        found = []
        for channel_id, noted_s in self._noted.items():
            if now_s - noted_s < KEEP_S:
                break
            if channel_id not in self._unannounced and channel_id not in self._to_write:
                found.append(channel_id)
        return found

    def struck(self, channel_ids: Iterable[str]) -> None:
        for channel_id in channel_ids:
            self._noted.pop(channel_id, None)

    def __len__(self) -> int:
        return len(self._noted)


class Intents:
    """Each method is one round trip (or one per thousand intents) and raises ChatError(REDIS_UNAVAILABLE) when Redis
    does not answer."""

    def __init__(self, redis: Redis, keys: Keys, pod: str) -> None:
        self._redis, self._keys, self._pod = redis, keys, pod

    async def begin(self, channel_ids: Sequence[str]) -> None:
        """Note channels, and when. Noting one twice is the same as once, later."""
        if channel_ids:
            at_ms = now_ms()
            marks = [part for channel_id in channel_ids for part in (at_ms, channel_id)]
            noted, _ = await execute_each(
                self._redis,
                [
                    ("ZADD", self._keys.intents(self._pod), *marks),
                    ("SADD", self._keys.owners, self._pod),
                ],
            )
            # That it is an owner is written each time: once is enough.
            if isinstance(noted, ChatError):
                raise noted

    async def done(self, channel_ids: Sequence[str]) -> None:
        await self.clear(self._pod, channel_ids)

    async def take(self, pod: str) -> list[str]:
        """What a pod has noted. It stays noted until `clear`, so that a reaper that dies takes nothing with
        it."""
        return sorted(await self.noted(pod))

    async def noted(self, pod: str) -> dict[str, int]:
        """The same with when (Unix ms, by that pod's clock) each was noted last."""
        return {
            channel.decode(): int(at_ms)
            async for found in scan(self._redis, "ZSCAN", self._keys.intents(pod))
            for channel, at_ms in zip(found[::2], found[1::2], strict=True)
        }

    async def clear(self, pod: str, channel_ids: Sequence[str]) -> None:
        """Those channels of that pod have been looked at."""
        if channel_ids:
            await execute(self._redis, [("ZREM", self._keys.intents(pod), *channel_ids)])

    async def owners(self) -> list[str]:
        """Pods of any kind that have ever noted an intent, or had routes, and are not forgotten."""
        (found,) = await execute(self._redis, [("SMEMBERS", self._keys.owners)])
        return sorted(pod.decode() for pod in found)

    async def forget(self, pod: str) -> None:
        """Strike a pod off the owners; it is one again as soon as it notes something."""
        await execute(self._redis, [("SREM", self._keys.owners, pod)])
