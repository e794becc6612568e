"""Tells the other pods: one task owns what goes to the bus, so that a slow Redis never holds up an append.

Everything queued goes out together. What cannot go out is owed: its channels are poked, and its membership events
sent again, once Redis answers; receivers that lost Redis themselves compare heads with the store anyway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from chatkernel.bus import Bus, EventEnvelope, Poke, Post
from chatkernel.errors import ChatError
from chatkernel.intents import KEEP_S, Intents, Ledger

log = logging.getLogger(__name__)

RETRY_S = 0.5
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
        self._owed_channels: set[str] = set()
        self._owed_posts: list[Post] = []
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
        if self._sweep is not None:
            self._sweep.cancel()
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
            posts, self._posts = self._posts, []
            stored, self._stored = self._stored, {}
            self._sending = True
            try:
                await self._send(posts)
                self._ledger.announced(stored)
            except ChatError as error:
                self._owe(posts, stored)
                if not self.degraded:
                    self.degraded = True
                    log.warning("bus away", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
                self._wake.set()
            except Exception:
                log.exception("publish failed")
                self._owe(posts, stored)
                await asyncio.sleep(RETRY_S)
            finally:
                self._sending = False

    async def _send(self, posts: list[Post]) -> None:
        await self._note()
        if self._owed_channels or self._owed_posts:
            await self._pay()
        if posts:
            self.bus_writes += await self._bus.publish(posts)
        await self._strike(time.monotonic())
        if self.degraded:
            self.degraded = False
            log.info("bus back")

    async def _note(self) -> None:
        taken = self._ledger.take()
        if self._intents is not None and taken:
            await self._intents.begin(sorted(taken))
            self._ledger.written(taken)

    async def _strike(self, now_s: float) -> None:
        """Channels that rest, off the list of those that somebody would have to look at."""
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
        channels = sorted(self._owed_channels)
        poke = [Post(Poke(channels), channels=tuple(channels))] if channels else []
        self.bus_writes += await self._bus.publish([*self._owed_posts, *poke])
        self._owed_channels.difference_update(channels)
        self._owed_posts.clear()

    def _owe(self, posts: list[Post], stored: dict[str, int]) -> None:
        self._stored = stored | self._stored
        for post in posts:
            if isinstance(post.envelope, EventEnvelope) and len(self._owed_channels) < OWED_CHANNELS_MAX:
                self._owed_channels.add(post.envelope.channel_id)
            if post.users and len(self._owed_posts) < OWED_POSTS_MAX:
                self._owed_posts.append(post)
