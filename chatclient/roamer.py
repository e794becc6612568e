"""Always one good link: takes seats by discovery, reconnects with full jitter, and moves when a pod asks for
it.

One task per client. It is asleep while all is well; a closed link or a `migrate` wakes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol

from chatclient.backoff import Backoff
from chatclient.errors import Closed, Unreachable
from chatclient.link import Link
from chatclient.listener import Up
from chatkernel.errors import RESUMABLE, ChatError, Close, Code
from chatkernel.protocol import Seat, Seats

EXCLUDE_TRIES = 2
"""Seats asked for without the pod that just failed; after that it may be its replacement, or the only one."""

MOVE_SLACK_S = 1.0
"""The old link is left to its acks until this long before its pod closes it."""

_FATAL = frozenset(
    {
        Code.UNAUTHENTICATED,
        Code.WRONG_CREDENTIALS,
        Code.TOKEN_EXPIRED,
        Code.TOKEN_REUSED,
        Code.DEVICE_REVOKED,
        Code.ACCOUNT_SUSPENDED,
        Code.INVALID_FIELD,
        Code.MALFORMED,
        Code.NOT_FOUND,
    }
)
"""Refusals that no other seat changes."""

_NO_CODE = frozenset({1005, 1006})
"""The connection ended without the pod saying why."""


class RoamerOwner(Protocol):
    async def greet(self, seat: Seat) -> Link:
        """A link on this seat, in sync. Raises Unreachable or ChatError."""

    def on_up(self, link: Link, up: Up) -> None: ...

    def on_down(self, link: Link) -> None: ...

    def on_ended(self, reason: str) -> None: ...

    def unanswered_on(self, link: Link) -> int:
        """Commands still under way on that link."""

    @property
    def paged_events(self) -> int:
        """Events that came by sync so far."""


class Roamer:
    """Owns the client's current link. `now_s` is a monotonic clock in seconds."""

    def __init__(
        self,
        owner: RoamerOwner,
        take_seats: Callable[[list[str]], Awaitable[Seats]],
        rng: Random,
        now_s: Callable[[], float],
    ) -> None:
        self.link: Link | None = None
        self.moves = 0
        self.reconnects = 0
        self.last_problem = ""
        self._owner, self._take_seats, self._rng, self._now_s = owner, take_seats, rng, now_s
        self._wake = asyncio.Event()
        self._farewells: set[asyncio.Task[None]] = set()
        self._lost_at: float | None = None

    # --- what the client tells us ---

    def link_closed(self, link: Link) -> None:
        if link is not self.link:
            return
        if self._lost_at is None:
            self._lost_at = self._now_s()
        self._owner.on_down(link)
        self._wake.set()

    def migrate_asked(self, link: Link, in_s: float, reason: str) -> None:
        """The pod is going and closes the link in `in_s` seconds."""
        # It may come before the link is ours, in the middle of its hello: the link remembers it.
        if not link.migrating:
            link.migrating = True
            link.leave_by_s, link.leave_reason = self._now_s() + in_s, reason
            self._wake.set()

    def move(self) -> None:
        """Look again now (a test or a person wants another seat)."""
        self._wake.set()

    # --- the task ---

    async def run(self) -> None:
        """Runs until cancelled, or until the session ends for good (told to the owner)."""
        try:
            while True:
                link = self.link
                if link is None or not link.is_open:
                    await self._reconnect(link)
                elif link.migrating:
                    await self._migrate(link)
                else:
                    self._wake.clear()
                    await self._wake.wait()
        except Closed as ended:
            self._owner.on_ended(ended.reason)
        except Exception as error:
            # Whoever waits for a send must not wait for a task that is no more.
            self._owner.on_ended(f"the client failed: {error or type(error).__name__}")
            raise
        finally:
            for task in self._farewells:
                task.cancel()

    async def _reconnect(self, old: Link | None) -> None:
        if old is not None:
            self._check_close(old)
        from_pod = None if old is None else old.pod
        started = self._now_s() if self._lost_at is None else self._lost_at
        paged = self._owner.paged_events
        backoff = Backoff(self._rng)
        if old is not None:
            # All clients of a dead pod are here at once: even the first try is spread out.
            await asyncio.sleep(backoff.next_s())
        while True:
            exclude = [from_pod] if from_pod is not None and backoff.tries <= EXCLUDE_TRIES else []
            try:
                link = await self._establish(exclude)
                break
            except Unreachable as error:
                self.last_problem = str(error)
                await asyncio.sleep(backoff.next_s())
            except ChatError as error:
                if error.code in _FATAL:
                    raise Closed(error.detail) from error
                self.last_problem = error.detail
                await asyncio.sleep(backoff.next_s(error.retry_after_s))
        self.link, self._lost_at = link, None
        if old is not None:
            self.reconnects += 1
        took_s = self._now_s() - started
        self._owner.on_up(link, Up(link.pod, from_pod, took_s, False, self._owner.paged_events - paged))

    async def _migrate(self, old: Link) -> None:
        """A new link first, in sync, and only then farewell to the old one."""
        started, paged = self._now_s(), self._owner.paged_events
        backoff = Backoff(self._rng)
        while old.is_open:
            try:
                link = await self._establish([old.pod])
                break
            except (Unreachable, ChatError) as error:
                retry_after_s = error.retry_after_s if isinstance(error, ChatError) else None
                await asyncio.sleep(backoff.next_s(retry_after_s))
        else:
            return  # it closed before we found another: an ordinary reconnect
        self.link, self._lost_at = link, None
        self.moves += 1
        took_s = self._now_s() - started
        caught_up = self._owner.paged_events - paged
        self._owner.on_up(link, Up(link.pod, old.pod, took_s, True, caught_up, old.leave_reason))
        task = asyncio.create_task(self._farewell(old), name=f"farewell {old.pod}")
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    async def _farewell(self, old: Link) -> None:
        """Closes the old link as soon as nothing sent on it waits for its ack."""
        try:
            while (  # noqa: ASYNC110 - acks are not worth an event of their own here
                old.is_open
                and self._owner.unanswered_on(old)
                and self._now_s() < old.leave_by_s - MOVE_SLACK_S
            ):
                await asyncio.sleep(0.02)
        finally:
            old.close()

    async def _establish(self, exclude: list[str]) -> Link:
        seats = await self._take_seats(exclude)
        problem: Unreachable | ChatError | None = None
        for seat in (seats.best, *seats.alternatives):
            if seat.pod in exclude:
                continue
            try:
                return await self._owner.greet(seat)
            except Unreachable as error:
                problem = error
            except ChatError as error:
                if error.code in _FATAL:
                    raise
                problem = error
        raise problem or Unreachable("discovery knows only the pod that just failed")

    @staticmethod
    def _check_close(link: Link) -> None:
        """Raises Closed after a close code that says not to come back."""
        code = link.close_code
        if code is None or code in _NO_CODE or code in RESUMABLE:
            return
        if code == Close.DEVICE_REVOKED:
            raise Closed("this device was logged out")
        raise Closed(f"{link.pod} closed the session for good ({code} {link.close_reason})".rstrip())
