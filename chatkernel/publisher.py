"""Tells the other pods: one task owns what goes to the bus, so that a slow Redis never holds up an append.

Everything queued goes out together. What cannot go out is owed: its channels are poked, and what else must arrive is
sent again, once Redis answers; receivers that lost Redis themselves compare heads with the store anyway. A node of a
cluster that is away holds up what has to do with it, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from chatkernel.bus import (
    Bus,
    ChannelFrame,
    EventEnvelope,
    NotPublished,
    Poke,
    Post,
    PresenceChange,
    end_of_round,
)
from chatkernel.errors import ChatError
from chatkernel.intents import KEEP_S, Intents, Ledger

log = logging.getLogger(__name__)

PAUSE_S = 0.05
"""After a round in which something failed: what comes meanwhile goes out together."""
RETRY_S = 0.5
"""Between two attempts to send what is owed."""
OWED_CHANNELS_MAX = 20_000
OWED_POSTS_MAX = 1_000


class Publisher:
    """Owns the queue to the bus and the note of what is owed."""

    def __init__(self, bus: Bus, intents: Intents | None) -> None:
        self._bus, self._intents = bus, intents
        self._ledger = Ledger()
        self._stored: dict[str, int] = {}
        """What the ledger is told once what is queued is through."""
        self._sweep: asyncio.TimerHandle | None = None
        self._posts: list[Post] = []
        self._owed_channels: dict[str, int | None] = {}
        """Channels to poke, and what the ledger is told then."""
        self._owed_posts: dict[object, Post] = {}
        """By what a later one replaces."""
        self._retry_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending = False
        self.degraded = False
        self.bus_writes = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="publisher")

    async def aclose(self) -> None:
        """Give what is queued or on its way one last chance, then stop."""
        if self._task is None:
            return
        with suppress(TimeoutError, ChatError):
            async with asyncio.timeout(1.0):
                while (self._posts or self._wake.is_set() or self._sending) and not self.degraded:  # noqa: ASYNC110 - ends by the time-out
                    await asyncio.sleep(0.01)
                await self._strike(time.monotonic() + KEEP_S)
        self._task.cancel()
        for timer in (self._sweep, self._retry):
            if timer is not None:
                timer.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def begin(self, channel_ids: Sequence[str]) -> None:
        """Appends to these channels are on their way to the store: if this pod dies now, somebody must look."""
        if self._intents is not None and self._ledger.begin(channel_ids, time.monotonic()):
            self._wake.set()

    def publish(self, posts: Sequence[Post]) -> None:
        self._posts.extend(posts)
        stored = [post.envelope.channel_id for post in posts if isinstance(post.envelope, EventEnvelope)]
        self._stored.update(self._ledger.mark(stored))
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            posts, stored = self._take()
            self._sending = True
            try:
                error = await self._round(posts, stored)
            except Exception:
                log.exception("publish failed")
                self._owe(posts, stored)
                self._retry_soon()
                await asyncio.sleep(RETRY_S)
            else:
                await self._judge(error)
            finally:
                self._sending = False

    def _take(self) -> tuple[list[Post], dict[str, int]]:
        """The posts of the next round, and what the ledger is told once they are through. Those that are left come
        with the one after it: intents and what is owed have their turn in between."""
        end = end_of_round(self._posts)
        if end == len(self._posts):
            posts, self._posts = self._posts, []
            stored, self._stored = self._stored, {}
            return posts, stored
        self._wake.set()
        posts, self._posts = self._posts[:end], self._posts[end:]
        left = {post.envelope.channel_id for post in self._posts if isinstance(post.envelope, EventEnvelope)}
        stored = {channel: mark for channel, mark in self._stored.items() if channel not in left}
        self._stored = {channel: mark for channel, mark in self._stored.items() if channel in left}
        return posts, stored

    async def _round(self, posts: list[Post], stored: dict[str, int]) -> ChatError | None:
        """Each part is tried, whatever became of the others; the first error."""
        errors = []
        parts: tuple[Callable[[], Awaitable[None]], ...] = (
            self._note,
            self._pay,
            partial(self._publish, posts, stored),
            partial(self._strike, time.monotonic()),
        )
        for part in parts:
            try:
                await part()
            except ChatError as error:
                errors.append(error)
        return errors[0] if errors else None

    async def _judge(self, error: ChatError | None) -> None:
        """Redis is back when all of it takes writes: what failed may have been worth no second attempt."""
        if error is None and self.degraded and not (self._owed_channels or self._owed_posts):
            try:
                await self._bus.check()
            except ChatError as still:
                error = still
            else:
                self.degraded = False
                log.info("bus back")
        if error is not None and not self.degraded:
            self.degraded = True
            log.warning("bus away", extra={"error": str(error)})
        if self.degraded:
            self._retry_soon()
        if error is not None:
            await asyncio.sleep(PAUSE_S)

    def _retry_soon(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        self._wake.set()

    async def _note(self) -> None:
        taken = self._ledger.take()
        if self._intents is not None and taken:
            await self._intents.begin(sorted(taken))
            self._ledger.written(taken)

    async def _strike(self, now_s: float) -> None:
        """Channels that rest, off the list of those that somebody would have to look at."""
        if self._intents is not None and (failed := self._ledger.failed(now_s)):
            self._owed_channels |= failed
            self._wake.set()
        settled = self._ledger.settled(now_s)
        if self._intents is not None and settled:
            await self._intents.done(settled)
            self._ledger.struck(settled)
        if self._ledger and self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEEP_S, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweep = None
        self._wake.set()

    async def _pay(self) -> None:
        now_s = time.monotonic()
        if now_s < self._retry_at or not (self._owed_channels or self._owed_posts):
            return
        self._retry_at = now_s + RETRY_S
        pokes = {channel: Post(Poke([channel]), (channel,)) for channel in self._owed_channels}
        owed = [*pokes.values(), *self._owed_posts.values()]
        taken = {id(post) for post in owed[: end_of_round(owed)]}
        failure = await self._write(owed[: len(taken)])
        unpaid = {id(post) for post in failure.posts} if failure is not None else set()
        # What was not paid comes last from now on: it may all be for a node that is away, and the rest is not.
        for channel, post in pokes.items():
            if id(post) in taken:
                mark = self._owed_channels.pop(channel)
                if id(post) in unpaid:
                    self._owed_channels[channel] = mark
                elif mark is not None:
                    self._ledger.announced({channel: mark})
        for key, post in list(self._owed_posts.items()):
            if id(post) in taken:
                del self._owed_posts[key]
                if id(post) in unpaid:
                    self._owed_posts[key] = post
        if failure is not None:
            raise failure
        if len(taken) < len(owed):
            self._retry_at = 0.0
            self._wake.set()

    async def _publish(self, posts: list[Post], stored: dict[str, int]) -> None:
        if self._owed_posts:
            for post in posts:
                self._owed_posts.pop(_replaces(post), None)
        failure = await self._write(posts)
        if failure is not None:
            self._owe(failure.posts, {})
        for channel, mark in stored.items():
            if channel in self._owed_channels:
                self._owed_channels[channel] = mark
            else:
                self._ledger.announced({channel: mark})
        if failure is not None:
            raise failure

    async def _write(self, posts: Sequence[Post]) -> NotPublished | None:
        try:
            self.bus_writes += await self._bus.publish(posts)
        except NotPublished as error:
            return error
        return None

    def _owe(self, posts: Sequence[Post], stored: dict[str, int]) -> None:
        for post in posts:
            envelope = post.envelope
            if isinstance(envelope, EventEnvelope):
                channel = envelope.channel_id
                if channel in self._owed_channels or len(self._owed_channels) < OWED_CHANNELS_MAX:
                    self._owed_channels[channel] = stored.get(channel, self._owed_channels.get(channel))
                if not post.users:
                    continue
            elif isinstance(envelope, ChannelFrame):
                continue
            if len(self._owed_posts) < OWED_POSTS_MAX:
                self._owed_posts[_replaces(post)] = post


def _replaces(post: Post) -> object:
    """What a later post about the same makes pointless: whether a person is on line. Others stand for themselves."""
    return post.envelope.user_id if isinstance(post.envelope, PresenceChange) else id(post)
