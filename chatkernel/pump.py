"""What carries drafts to the store: one common batch at a time, and beside it channels that are in doubt.

An attempt that takes long is not waited for. While it has only read it is given up; while it may be storing, the next
one begins without its channels, and these are looked for one by one: a part of the store may have stored its share
long ago, and another part keep the answer back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Protocol

from chatkernel.apart import Trial
from chatkernel.attempt import Attempt
from chatkernel.backlog import Backlog
from chatkernel.drafts import Draft
from chatkernel.errors import ChatError

log = logging.getLogger(__name__)

BATCH_INTERVAL_S = 0.002
"""After a batch of several the next begins no sooner: each costs a commit, and a write to every member of a busy
channel, so a little patience makes both fewer. A message that comes alone is never held up."""
SLOW_S = 0.5
"""After so long others do not wait for an attempt any more. A store that always takes longer is served all the same,
in more and smaller attempts."""
LET_GO_MAX, LET_GO_TRIALS_MAX = 8, 4
"""Attempts that nobody waits for, and with how many a trial does not become one more: each holds a connection. Then
a common batch is waited for after all, and a trial is given up, as if its time were up: else channels that the store
reads but does not write would keep the places of those that it serves."""


class Place(Protocol):
    """What the pump has done at the store."""

    async def place(self, attempt: Attempt) -> None:
        """Try it; what is to be tried again, and whether the store failed, is noted in it. Raises nothing."""

    def gave_up(self, attempt: Attempt) -> None:
        """It was cut short: what it has not answered is to be tried again, and may be stored if it was inserting."""

    async def look_for(self, drafts: Sequence[Draft]) -> bool:
        """Answer those that are stored; whether all are. Raises ChatError."""

    def forget(self, drafts: Sequence[Draft]) -> None:
        """Where their channels end is read again."""


class Pump:
    """Owns the tasks. They end when nothing waits any more."""

    def __init__(self, backlog: Backlog, place: Place) -> None:
        self._backlog, self._apart, self._place = backlog, backlog.apart, place
        self.common: asyncio.Task[None] | None = None
        """While it is there and nothing is apart, it finds by itself what is submitted."""
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._let_go = 0
        self._changed = asyncio.Event()
        """There may be something to be tried apart."""

    def wake(self) -> None:
        """Something was submitted, or has come back."""
        if self.common is None and self._backlog.together:
            self.common = self._started(self._carry_all(), "appender")
        if self._apart.active:
            self._changed.set()
            if self._keeper is None and self._apart.busy:
                self._keeper = self._started(self._carry_apart(), "appender-apart")

    async def aclose(self) -> None:
        """Wait until all have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _started(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- the common batch -------------------------------------------------------------------------------

    async def _carry_all(self) -> None:
        me = asyncio.current_task()
        try:
            while self._backlog.together:
                attempt = self._backlog.take()
                if attempt is None:
                    await self._backlog.rest()
                    continue
                several = len(attempt.drafts) > 1
                await self._carry(attempt, SLOW_S)
                if attempt.let_go:
                    return  # Another one goes on.
                if several and not attempt.again:
                    await asyncio.sleep(max(0.0, attempt.started_s + BATCH_INTERVAL_S - time.monotonic()))
        finally:
            if self.common is me:
                self.common = None

    async def _carry(self, attempt: Attempt, read_s: float, trial: Trial | None = None) -> None:
        task = attempt.task = asyncio.current_task()
        self._look_after(attempt, read_s, trial)
        try:
            await self._place.place(attempt)
        except asyncio.CancelledError:
            if not attempt.given_up:
                raise
            self._place.gave_up(attempt)
        finally:
            if attempt.timer is not None:
                attempt.timer.cancel()
        if attempt.given_up and task is not None:
            task.uncancel()
        self._let_go -= attempt.let_go
        self._backlog.done(attempt)
        if trial is not None and not attempt.let_go:
            self._apart.ended(trial, attempt.error is None)
        self.wake()

    # --- what takes long --------------------------------------------------------------------------------

    def _look_after(self, attempt: Attempt, wait_s: float, trial: Trial | None) -> None:
        loop = asyncio.get_running_loop()
        attempt.timer = loop.call_later(wait_s, self._takes_long, attempt, trial)

    def _takes_long(self, attempt: Attempt, trial: Trial | None) -> None:
        left_s = attempt.inserting_s + SLOW_S - time.monotonic()
        most = LET_GO_MAX if trial is None else LET_GO_TRIALS_MAX
        if not attempt.inserting_s or (left_s <= 0 and trial is not None and self._let_go >= most):
            attempt.given_up = True
            if attempt.task is not None:
                attempt.task.cancel()
            return
        if left_s > 0 or self._let_go >= most:
            self._look_after(attempt, max(left_s, SLOW_S / 10), trial)
            return
        attempt.let_go = True
        self._let_go += 1
        # What it has stored may be seen by others, and they build on it.
        self._place.forget(attempt.drafts)
        self._backlog.let_go(attempt)
        if trial is not None:
            self._apart.ended(trial, False)
        elif self.common is attempt.task:
            self.common = None
        self.wake()

    # --- apart ------------------------------------------------------------------------------------------

    async def _carry_apart(self) -> None:
        apart = self._apart
        try:
            while apart.busy:
                self._changed.clear()
                while (trial := apart.take()) is not None:
                    if trial.line is not None:
                        self._backlog.begun(trial.attempt)  # now: what is nowhere is not looked after
                    self._started(self._try_apart(trial), "appender-trial")
                due_s = apart.due_s()
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if due_s == math.inf else due_s - time.monotonic()):
                        await self._changed.wait()
        finally:
            self._keeper = None

    async def _try_apart(self, trial: Trial) -> None:
        if trial.line is None:
            await self._look_for(trial, trial.suspects[0].channel_id)
        else:
            # By reading first: that can be given up.
            self._place.forget(trial.attempt.drafts)
            await self._carry(trial.attempt, trial.read_s, trial)

    async def _look_for(self, trial: Trial, channel_id: str) -> None:
        attempt, answered = trial.attempt, False
        try:
            async with asyncio.timeout(trial.read_s):
                all_are = await self._place.look_for(attempt.of(channel_id))
                answered = True
                if all_are and attempt.let_go and attempt in self._backlog:
                    self._backlog.found(attempt, channel_id)
        except (TimeoutError, ChatError):
            pass
        except Exception:
            # A fault of our own must not keep the place.
            log.exception("look failed")
        self._apart.ended(trial, answered)
        self.wake()
