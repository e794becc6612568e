"""Drafts on their way to the store: bounded in number and bytes, and each answered in time, whatever the store does.

What is given up for its time may be stored all the same, now or later: its sender is told to come again, and the
resend finds it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress

from chatkernel.drafts import Draft
from chatkernel.errors import ChatError, Code

BATCH_MAX_EVENTS = 512
BATCH_LEAST_EVENTS = 8
"""After failures. A store that has more to do than it manages in its time would fail every large batch anew."""
DEADLINE_S = 8.0
"""How long after it was taken a sender waits at most for an `ack` or a retryable error."""
RETRY_FIRST_S, RETRY_MOST_S = 0.002, 0.25
"""How long a channel waits at most before it is tried again; doubled each time."""
WAITING_MAX = 20_000
"""Drafts that may wait for the store: beyond it senders are told to come back (`busy`)."""
WAITING_MAX_BYTES = 64 * 1024 * 1024
"""The same in bytes, where nothing else is said: WAITING_MAX of the longest texts would be six times this."""
STUCK_S = 1.0
"""A batch that is at the store for longer says that it is the store which keeps others waiting."""
LOOK_S = 0.25
"""After one has run out, its neighbours are looked at together."""


class Backlog:
    """Owns the order of what waits. What has to be tried again goes back to the front, and its channel may have to
    wait a moment there; the other channels do not wait with it, and within a channel nothing overtakes."""

    def __init__(self, random_source: random.Random | None = None) -> None:
        self._random = random_source or random.Random()
        self._waiting: list[Draft] = []
        self._taken: list[Draft] = []
        """The batch that is at the store, since then."""
        self._taken_at_s = 0.0
        self._bytes = 0
        self.max_bytes = WAITING_MAX_BYTES
        """What may wait; with more, drafts are refused."""
        self._most = BATCH_MAX_EVENTS
        """In the next batch: less after each failure of the store, and more again after each success."""
        self._not_before: dict[str, float] = {}
        """Channels among those waiting that are not to be tried yet."""
        self._submitted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.store_error: ChatError | None = None
        """Of the last attempt."""

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, draft: Draft) -> None:
        """Raises ChatError(BUSY)."""
        if len(self._waiting) >= WAITING_MAX:
            raise ChatError(Code.BUSY, limit=WAITING_MAX, retry_after_s=1.0)
        if self._bytes > self.max_bytes:
            raise ChatError(Code.BUSY, limit=self.max_bytes, retry_after_s=1.0)
        self._bytes += draft.size_bytes
        draft.deadline_s = time.monotonic() + DEADLINE_S
        self._waiting.append(draft)
        if draft.channel_id not in self._not_before:
            self._submitted.set()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DEADLINE_S, self._look)

    def take(self) -> list[Draft]:
        """The next batch, in the order of the queue; channels that are not to be tried yet stay in it."""
        self._submitted.clear()
        # In front are the oldest.
        if self._waiting and self._waiting[0].deadline_s <= time.monotonic():
            self._give_up()
        most = min(self._most, BATCH_MAX_EVENTS)
        if not self._not_before:
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
        else:
            batch = self._take_ripe(most)
        self._taken, self._taken_at_s = batch, time.monotonic()
        return batch

    def _take_ripe(self, most: int) -> list[Draft]:
        now_s = time.monotonic()
        self._not_before = {c: due_s for c, due_s in self._not_before.items() if due_s > now_s}
        batch: list[Draft] = []
        kept: list[Draft] = []
        for number, draft in enumerate(self._waiting):
            if len(batch) == most:
                kept.extend(self._waiting[number:])
                break
            (kept if draft.channel_id in self._not_before else batch).append(draft)
        self._waiting = kept
        return batch

    async def rest(self) -> None:
        """Until a channel may be tried again, or something new comes."""
        if not self._not_before:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._not_before.values()) - time.monotonic()):
                await self._submitted.wait()

    def done(self, again: Sequence[Draft]) -> None:
        """The batch is through, but for these: to the front of the queue, with a pause for channels that keep losing
        or that the store failed."""
        self._bytes -= sum([draft.size_bytes for draft in self._taken])
        if self.store_error is not None:
            self._most = max(BATCH_LEAST_EVENTS, len(self._taken) // 2)
        elif self._most < BATCH_MAX_EVENTS:
            self._most *= 2
        self._taken = []
        now_s, left = time.monotonic(), [draft for draft in again if not draft.answered]
        for draft in left:
            if draft.channel_id not in self._not_before and (self.store_error is not None or draft.tries > 2):
                most_s = min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(draft.tries, 10))
                self._not_before[draft.channel_id] = now_s + self._random.uniform(0, most_s)
        self._waiting[:0] = left
        self._bytes += sum([draft.size_bytes for draft in left])

    def _look(self) -> None:
        self._give_up()
        self._timer = None
        left = [draft.deadline_s for draft in (*self._taken, *self._waiting) if not draft.answered]
        if left:
            wait_s = max(LOOK_S, min(left) - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _give_up(self) -> None:
        """Answer what has run out. It stays where it is if it is at the store, and waits no longer if it is not."""
        now_s = time.monotonic()
        stuck = bool(self._taken) and now_s - self._taken_at_s > STUCK_S
        for draft in self._taken:
            if draft.deadline_s <= now_s:
                draft.answer(None, self._why(draft, True))
        for draft in self._waiting:
            if draft.deadline_s <= now_s:
                draft.answer(None, self._why(draft, stuck))
        gone = [draft for draft in self._waiting if draft.answered]
        self._bytes -= sum([draft.size_bytes for draft in gone])
        self._waiting = [draft for draft in self._waiting if not draft.answered]

    def _why(self, draft: Draft, store_is_slow: bool) -> ChatError:
        failure = self.store_error or draft.failure
        if failure is not None:
            return failure
        if store_is_slow:
            return ChatError(Code.STORAGE_UNAVAILABLE, "The store did not answer in time")
        return ChatError(Code.BUSY, "The channel is too busy", retry_after_s=0.5)
