"""Tells the other pods: one task owns what goes to the bus, so that a slow Redis never holds up an append.

Everything queued goes out together. What cannot go out is owed: its channels are poked, and its membership events
sent again, once Redis answers; receivers that lost Redis themselves compare heads with the store anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from chatkernel.bus import Bus, EventEnvelope, Poke, Post
from chatkernel.errors import ChatError
from chatkernel.intents import Intents

log = logging.getLogger(__name__)

RETRY_S = 0.5
OWED_CHANNELS_MAX = 20_000
OWED_POSTS_MAX = 1_000


class Publisher:
    """Owns the queue to the bus and the note of what is owed."""

    def __init__(self, bus: Bus, intents: Intents | None) -> None:
        self._bus, self._intents = bus, intents
        self._begun: set[str] = set()
        self._noted: set[str] = set()
        """Channels whose intent is in Redis and whose publish has not been through."""
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
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while (self._posts or self._begun or self._sending) and not self.degraded:  # noqa: ASYNC110 - ends by the time-out
                    await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def begin(self, channel_ids: Sequence[str]) -> None:
        """Appends to these channels are on their way to the store: if this pod dies now, somebody must look."""
        if self._intents is not None:
            self._begun.update(channel_ids)
            self._wake.set()

    def publish(self, posts: Sequence[Post]) -> None:
        self._posts.extend(posts)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            posts, self._posts = self._posts, []
            begun, self._begun = self._begun, set()
            self._sending = True
            try:
                await self._send(posts, begun)
            except ChatError as error:
                self._owe(posts)
                if not self.degraded:
                    self.degraded = True
                    log.warning("bus away", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
                self._wake.set()
            except Exception:
                log.exception("publish failed")
                self._owe(posts)
                await asyncio.sleep(RETRY_S)
            finally:
                self._sending = False

    async def _send(self, posts: list[Post], begun: set[str]) -> None:
        channels = {channel for post in posts for channel in post.channels}
        if self._intents is not None and begun - channels:
            await self._intents.begin(sorted(begun - channels))
            self._noted |= begun - channels
        if self._owed_channels or self._owed_posts:
            await self._pay()
        if posts:
            self.bus_writes += await self._bus.publish(posts)
        finished = self._noted & channels
        if self._intents is not None and finished:
            await self._intents.done(sorted(finished))
            self._noted -= finished
        if self.degraded:
            self.degraded = False
            log.info("bus back")

    async def _pay(self) -> None:
        channels = sorted(self._owed_channels)
        poke = [Post(Poke(channels), channels=tuple(channels))] if channels else []
        self.bus_writes += await self._bus.publish([*self._owed_posts, *poke])
        self._owed_channels.difference_update(channels)
        self._owed_posts.clear()

    def _owe(self, posts: list[Post]) -> None:
        for post in posts:
            if isinstance(post.envelope, EventEnvelope) and len(self._owed_channels) < OWED_CHANNELS_MAX:
                self._owed_channels.add(post.envelope.channel_id)
            if post.users and len(self._owed_posts) < OWED_POSTS_MAX:
                self._owed_posts.append(post)
