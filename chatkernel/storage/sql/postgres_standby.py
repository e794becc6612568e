"""What a synchronous standby that is away would do to us, and is kept from doing.

A commit waits for the standby at the server, for as long as that takes, and whoever gives it up leaves its backend
waiting. And what a commit that did not wait to its end has written can be read, though a failover takes it back: its
wait was cancelled, or the server was started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.postgres_errors import RETRY_AFTER_S

READS_KEPT = 2
"""Connections of a process that writes leave to reads, if it may have so many."""
WAITING = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    " AND xact_start < clock_timestamp() - interval '{overdue_ms} ms')"
)
"""Whether a commit is overdue. Of other roles' the server does not tell; all processes of a cluster have one."""


class Turns:
    """Who may write: a few at once, and nobody while the server has commits that are overdue. So each process leaves
    no more backends waiting than it has connections, however long the standby is away."""

    def __init__(self, connections: int, wait_s: float, overdue: Callable[[], Awaitable[bool]]) -> None:
        """`overdue` asks the server, and raises ChatError."""
        self._free = asyncio.Semaphore(max(1, connections - READS_KEPT))
        self._wait_s, self._overdue = wait_s, overdue
        self._given_up = self._caught_up = 0
        """How many commits were left waiting, and how many of them are known to have ended."""
        self._looking = False
        self._look_at_s = 0.0

    def gave_up(self) -> None:
        """A commit did not end in time."""
        self._given_up += 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises ChatError(BUSY | STORAGE_UNAVAILABLE)."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise ChatError(
                Code.BUSY, "All connections that may write are in use", retry_after_s=RETRY_AFTER_S
            ) from None
        try:
            await self._refuse_if_held_up()
            yield
        finally:
            self._free.release()

    async def _refuse_if_held_up(self) -> None:
        if self._given_up == self._caught_up:
            return
        if not self._looking and time.monotonic() >= self._look_at_s:
            self._looking, given_up = True, self._given_up
            try:
                if not await self._overdue():
                    self._caught_up = given_up
            finally:
                self._looking = False
                self._look_at_s = time.monotonic() + RETRY_AFTER_S
        if self._given_up != self._caught_up:
            raise ChatError(
                Code.STORAGE_UNAVAILABLE, "Earlier commits have not ended", retry_after_s=RETRY_AFTER_S
            )


class Doubt:
    """Whether what is read may be what a failover takes back: from the start on, and whenever a connection was lost,
    until a commit that began afterwards has ended."""

    def __init__(self, confirm: Callable[[], Awaitable[None]]) -> None:
        """`confirm` is such a commit, and raises ChatError."""
        self._confirm = confirm
        self._doubts, self._settled = 1, 0
        self._settling: asyncio.Task[None] | None = None

    def arose(self) -> None:
        self._doubts += 1

    async def settle(self) -> None:
        """Before what was read is told. One commit is for all who wait. Raises ChatError."""
        wanted = self._doubts
        while self._settled < wanted:
            # To wait for one that has ended gives way to nobody: then this loop would never end.
            if self._settling is None or self._settling.done():
                self._settling = asyncio.create_task(self._settle(), name="settle")
                self._settling.add_done_callback(taken)
            await asyncio.shield(self._settling)

    async def _settle(self) -> None:
        settles = self._doubts
        await self._confirm()
        self._settled = settles


def taken(task: asyncio.Task[object]) -> None:
    """A failure counts as heard of: whoever asked may have gone."""
    if not task.cancelled():
        task.exception()
