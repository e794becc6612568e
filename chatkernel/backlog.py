"""Drafts on their way to the store: bounded in number and bytes, and each answered in time, whatever the store does.

What is given up for its time may be stored all the same, now or later: its sender is told to come again, and the
resend finds it.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

from chatkernel.apart import Apart
from chatkernel.attempt import Attempt, pause_s
from chatkernel.drafts import Draft
from chatkernel.errors import ChatError, Code

BATCH_MAX_EVENTS = 512
BATCH_LEAST_EVENTS = 8
"""After failures. A store that has more to do than it manages in its time would fail every large batch anew."""
DEADLINE_S = 8.0
"""How long after it was taken a sender waits at most for an `ack` or a retryable error."""
WAITING_MAX = 20_000
"""Drafts that may wait for the store: beyond it senders are told to come back (`busy`)."""
WAITING_MAX_BYTES = 64 * 1024 * 1024
"""The same in bytes, where nothing else is said: WAITING_MAX of the longest texts would be six times this."""
APART_SHARE = 2
"""While the store serves some channels, those that it does not serve may have one of so many parts of this room."""
STUCK_S = 1.0
"""A batch that is at the store for longer says that it is the store which keeps others waiting."""
LOOK_S = 0.25
"""After one has run out, its neighbours are looked at together."""


class Backlog:
    """Owns the order of what waits. What has to be tried again goes back to the front, and its channel may have to
    wait a moment there; the other channels do not wait with it, and within a channel nothing overtakes. Channels that
    the store may be unable to serve wait `apart`."""

    def __init__(self, random_source: random.Random | None = None) -> None:
        self._random = random_source or random.Random()
        self.apart = Apart(self._random)
        self._waiting: list[Draft] = []
        self._under_way: dict[Attempt, None] = {}
        self._bytes = 0
        self.max_bytes = WAITING_MAX_BYTES
        """What may wait; with more, drafts are refused."""
        self._most = BATCH_MAX_EVENTS
        """In the next common batch: less after each that the store failed, and more again after each success."""
        self._not_before: dict[str, float] = {}
        """Channels among those waiting that are not to be tried yet."""
        self._submitted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting) + self.apart.count

    def __contains__(self, attempt: Attempt) -> bool:
        """Whether it is under way."""
        return attempt in self._under_way

    @property
    def together(self) -> int:
        """Those waiting that are not apart."""
        return len(self._waiting)

    def submit(self, draft: Draft) -> None:
        """Raises ChatError(BUSY)."""
        apart = self.apart
        if len(self._waiting) + apart.count >= WAITING_MAX:
            raise ChatError(Code.BUSY, limit=WAITING_MAX, retry_after_s=1.0)
        if self._bytes > self.max_bytes:
            raise ChatError(Code.BUSY, limit=self.max_bytes, retry_after_s=1.0)
        goes_apart = apart.active and apart.has(draft.channel_id)
        if goes_apart:
            self._check_share(draft.channel_id)
        self._bytes += draft.size_bytes
        draft.deadline_s = time.monotonic() + DEADLINE_S
        if goes_apart:
            apart.put(draft)
        else:
            self._waiting.append(draft)
            if draft.channel_id not in self._not_before:
                self._submitted.set()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DEADLINE_S, self._look)

    def _check_share(self, channel_id: str) -> None:
        """What waits for a part of the store that is away must not fill the room of all. Raises ChatError(BUSY)."""
        apart, share_bytes = self.apart, self.max_bytes // APART_SHARE
        is_full = apart.count >= WAITING_MAX // APART_SHARE or apart.waiting_bytes > share_bytes
        if is_full and apart.some_are_well and apart.was_tried(channel_id):
            raise ChatError(Code.BUSY, limit=share_bytes, retry_after_s=1.0)

    def take(self) -> Attempt | None:
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
        return self.begun(Attempt(batch)) if batch else None

    def begun(self, attempt: Attempt) -> Attempt:
        self._under_way[attempt] = None
        return attempt

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

    def done(self, attempt: Attempt) -> None:
        """It is through. What is left of it goes to the front of the queue, with a pause for channels that keep
        losing; what the store failed goes apart, and what waits behind it, too."""
        del self._under_way[attempt]
        left = [draft for draft in attempt.again if not draft.answered]
        self._bytes += sum([draft.size_bytes for draft in left])
        self._bytes -= sum([draft.size_bytes for draft in attempt.drafts])
        if attempt.error is None:
            if self._most < BATCH_MAX_EVENTS and not attempt.trial:
                self._most *= 2
            self._ready(self.apart.served(attempt, left) if self.apart.active else left)
            self._forget_served()
            return
        self._take_less_after(attempt)
        behind = self._in_doubt(attempt)
        self.apart.back(attempt, left, attempt.error)
        for draft in behind:
            self.apart.put(draft)

    def let_go(self, attempt: Attempt) -> None:
        """It takes long: others need not wait for it, and what waits behind it waits apart."""
        self._take_less_after(attempt)
        behind = self._in_doubt(attempt)
        self.apart.keep(attempt)
        for draft in behind:
            self.apart.put(draft)

    def found(self, attempt: Attempt, channel_id: str) -> None:
        """All that an attempt which was let go tried to store of this channel is stored."""
        attempt.found.add(channel_id)
        self._bytes -= sum([draft.size_bytes for draft in attempt.of(channel_id)])
        attempt.drafts = [draft for draft in attempt.drafts if draft.channel_id != channel_id]
        self._ready(self.apart.found(attempt, channel_id))
        self._forget_served()

    def _forget_served(self) -> None:
        if self.apart.knows_too_many:
            under_way = [draft for attempt in self._under_way for draft in attempt.drafts]
            self.apart.forget_served({draft.channel_id for draft in (*under_way, *self._waiting)})

    def _take_less_after(self, attempt: Attempt) -> None:
        if not attempt.trial:
            self._most = max(BATCH_LEAST_EVENTS, len(attempt.drafts) // 2)

    def _ready(self, drafts: list[Draft]) -> None:
        now_s = time.monotonic()
        for draft in drafts:
            if draft.channel_id not in self._not_before and draft.tries > 2:
                self._not_before[draft.channel_id] = now_s + pause_s(draft.tries, self._random)
        self._waiting[:0] = drafts
        if drafts:
            self._submitted.set()

    def _in_doubt(self, attempt: Attempt) -> list[Draft]:
        """Those that cannot wait with the others any more: at first all."""
        began = not self.apart.active
        self.apart.begin(self._under_way, time.monotonic())
        if began:
            behind, self._waiting = self._waiting, []
            return behind
        channels = set(attempt.channels)
        behind = [draft for draft in self._waiting if draft.channel_id in channels]
        self._waiting = [draft for draft in self._waiting if draft.channel_id not in channels]
        return behind

    def _look(self) -> None:
        self._give_up()
        self._timer = None
        under_way = [draft for attempt in self._under_way for draft in attempt.drafts]
        left = [
            draft.deadline_s
            for draft in (*under_way, *self._waiting, *self.apart.drafts())
            if not draft.answered
        ]
        if left:
            wait_s = max(LOOK_S, min(left) - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _give_up(self) -> None:
        """Answer what has run out. It stays where it is if it is at the store, and waits no longer if it is not."""
        now_s = time.monotonic()
        stuck = any(now_s - attempt.started_s > STUCK_S for attempt in self._under_way if not attempt.let_go)
        for attempt in self._under_way:
            for draft in attempt.drafts:
                if draft.deadline_s <= now_s:
                    draft.answer(None, _why(draft, True))
        for draft in self._waiting:
            if draft.deadline_s <= now_s:
                draft.answer(None, _why(draft, stuck))
        for draft in self.apart.drafts():
            if draft.deadline_s <= now_s:
                draft.answer(None, draft.failure or self.apart.failure or _why(draft, True))
        gone = [draft for draft in self._waiting if draft.answered]
        self._bytes -= sum([draft.size_bytes for draft in gone]) + self.apart.drop_answered()
        self._waiting = [draft for draft in self._waiting if not draft.answered]


def _why(draft: Draft, store_is_slow: bool) -> ChatError:
    if draft.failure is not None:
        return draft.failure
    if store_is_slow:
        return ChatError(Code.STORAGE_UNAVAILABLE, "The store did not answer in time")
    return ChatError(Code.BUSY, "The channel is too busy", retry_after_s=0.5)
