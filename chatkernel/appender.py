"""Append to logs: dense seqs without an owner or a lock, group commit, resends and unknown outcomes resolved.

Every writer assigns `seq = head + 1` on the head it remembers; the store's unique key lets one writer win, and the
loser re-reads the head. Since changes of membership are events of the same log, the head also says whether the
sender's grant is older than the last change (`members_seq`): it is then read again before the event is built, so
nobody can append after their own removal.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chatkernel.attempt import Attempt
from chatkernel.backlog import Backlog
from chatkernel.drafts import Draft, Placed
from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.message_ids import next_message_id
from chatkernel.protocol import MEMBERSHIP_KINDS, Event, EventKind
from chatkernel.pump import Pump
from chatkernel.storage.messages import Conversations, EventLog
from chatkernel.storage.model import Absence, Head, InsertOutcome, Run, SendKey

log = logging.getLogger(__name__)

HEADS_MAX = 20_000
SENT_MAX = 10_000


class _NotYet(Exception):
    """The store's grants are older than the log: whoever was removed in between would be let through. Or the head is
    not remembered any more. The channel waits."""


class Appender:
    """Owns the remembered heads. One batch is at the store at a time; what comes meanwhile is the next batch. Beside
    it are only channels that the store may be unable to serve (`pump.py`)."""

    def __init__(
        self,
        event_log: EventLog,
        conversations: Conversations,
        now: NowMs,
        *,
        before_insert: Callable[[list[str]], None],
        on_stored: Callable[[list[Event]], None],
        random_source: random.Random | None = None,
    ) -> None:
        self._log, self._conversations, self._now = event_log, conversations, now
        self._before_insert, self._on_stored = before_insert, on_stored
        self._backlog = Backlog(random_source)
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._sent: OrderedDict[SendKey, Placed] = OrderedDict()
        self._pump = Pump(self._backlog, self)

    @property
    def waiting(self) -> int:
        return len(self._backlog)

    def wait_for_at_most(self, waiting_bytes: int) -> None:
        """What may wait to be stored; with more, drafts are refused."""
        self._backlog.max_bytes = waiting_bytes

    def submit(self, draft: Draft) -> None:
        """Take a draft; its `done` is called later, never from within this call. Raises ChatError(BUSY)."""
        self._backlog.submit(draft)
        if self._pump.common is None or self._backlog.apart.active:
            self._pump.wake()

    async def append(self, **fields: Any) -> tuple[Placed, bool]:
        """`submit` for callers that wait: the place and whether it was there before. Raises ChatError."""
        future: asyncio.Future[tuple[Placed, bool]] = asyncio.get_running_loop().create_future()

        def done(placed: Placed | None, error: ChatError | None, duplicate: bool) -> None:
            if future.done():
                return
            if placed is not None:
                future.set_result((placed, duplicate))
            else:
                future.set_exception(error or ChatError(Code.INTERNAL))

        self.submit(Draft(done=done, **fields))
        return await future

    async def stored(self, key: SendKey) -> Placed | None:
        """Where what was sent with this key stands, if it was ever stored. Raises ChatError."""
        placed = self._sent.get(key)
        if placed is not None:
            return placed
        event = (await self._find([key])).get(key)
        return None if event is None else self._keep(key, event)

    def writes_to(self, channel_id: str) -> bool:
        """Whether a head is remembered, so that `saw` is worth the while."""
        return channel_id in self._heads

    def saw(self, event: Event) -> None:
        """Another pod appended: its event is the head to build on, so that the next append wins at once."""
        known = self._heads.get(event.channel_id)
        if known is not None and event.seq > known.seq:
            messages = event.messages_before + (event.kind is EventKind.MESSAGE)
            self._heads[event.channel_id] = Head(event.seq, event.message_id, messages, event.members_seq)

    async def aclose(self) -> None:
        """Wait until everything that was taken has its outcome."""
        await self._pump.aclose()

    # --- attempts, for the pump -------------------------------------------------------------------------

    async def place(self, attempt: Attempt) -> None:
        """One attempt; what must be tried again is in the order of the batch. Raises nothing."""
        drafts = attempt.drafts
        tried = [draft for draft in drafts if draft.tries]
        try:
            if tried:
                attempt.asked = True
                # The store may have them: a lost answer, or an earlier send from another pod.
                await self._drop_stored(tried)
                drafts = [draft for draft in drafts if not draft.answered]
            again = set(await self._attempt(attempt, drafts))
            if again:
                attempt.again = [draft for draft in drafts if draft in again]
        except ChatError as error:
            self._failed(attempt, error)
        except Exception:
            # A fault of our own must not leave senders without an answer, nor stop the next batch.
            log.exception("append failed", extra={"drafts": len(attempt.drafts)})
            self.forget(attempt.drafts)
            for draft in attempt.drafts:
                draft.answer(None, ChatError(Code.INTERNAL))
        while len(self._heads) > HEADS_MAX:
            self._heads.popitem(last=False)

    def _failed(self, attempt: Attempt, error: ChatError) -> None:
        self.forget(attempt.drafts)
        left = [draft for draft in attempt.drafts if not draft.answered]
        for draft in left:
            draft.tries += 1
            draft.failure = error
            if not error.retryable:
                draft.answer(None, error)
        if error.retryable:
            attempt.error, attempt.again = error, left

    def gave_up(self, attempt: Attempt) -> None:
        error = ChatError(Code.STORAGE_UNAVAILABLE, "The store did not answer in time")
        if attempt.inserting_s:
            self._failed(attempt, error)
        else:
            attempt.error = error
            attempt.again = [draft for draft in attempt.drafts if not draft.answered]

    async def look_for(self, drafts: Sequence[Draft]) -> bool:
        """Answer those that are stored; whether all are. Raises ChatError."""
        return not await self._drop_stored(drafts)

    def forget(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            self._heads.pop(draft.channel_id, None)

    async def _attempt(self, attempt: Attempt, drafts: list[Draft]) -> list[Draft]:
        """One insert of what can be built; the drafts that must be tried again."""
        by_channel: dict[str, list[Draft]] = {}
        for draft in self._answer_known(drafts):
            by_channel.setdefault(draft.channel_id, []).append(draft)
        unknown = [channel_id for channel_id in by_channel if channel_id not in self._heads]
        if unknown:
            attempt.asked = True
            found = await self._log.heads(unknown)
            for channel_id in unknown:
                self._remember(channel_id, found.get(channel_id, Head()))
        runs: list[Run] = []
        built: list[list[Draft]] = []
        ends: list[Head] = []
        again: list[Draft] = []
        for channel_id, wanted in by_channel.items():
            first, later = await self._ready(channel_id, wanted)
            again.extend(later)
            if first:
                run, end = self._build(channel_id, first)
                runs.append(run)
                built.append(first)
                ends.append(end)
        if runs:
            self._before_insert([run.channel_id for run in runs])
            attempt.asked, attempt.inserting_s = True, time.monotonic()
            outcomes = await self._log.insert(runs)
            again += self._settle(attempt, zip(runs, built, ends, outcomes, strict=True))
        return again

    def _settle(
        self, attempt: Attempt, inserted: Iterable[tuple[Run, list[Draft], Head, InsertOutcome]]
    ) -> list[Draft]:
        """What became of each run; the drafts of those that were refused."""
        stored: list[Event] = []
        refused: list[Draft] = []
        for run, made, end, outcome in inserted:
            if run.channel_id in attempt.found:
                continue  # It has gone on since.
            if outcome is InsertOutcome.STORED:
                self._remember(run.channel_id, end)
                stored.extend(run.events)
                for draft, event in zip(made, run.events, strict=True):
                    draft.answer(self._keep(draft.key, event))
            else:
                self._heads.pop(run.channel_id, None)
                refused.extend(made)
                for draft in made:
                    draft.tries += 1
        if stored:
            self._on_stored(stored)
        return refused

    def _answer_known(self, drafts: list[Draft]) -> list[Draft]:
        """Resends of what this process itself has appended lately need no store; the drafts that are left."""
        left = []
        for draft in drafts:
            placed = self._sent.get(draft.key)
            if placed is None:
                left.append(draft)
            else:
                draft.answer_stored(placed)
        return left

    async def _find(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        """What the store has of these. It is told to everyone once more: whoever stored it may have died, or lost
        the store's answer, before telling."""
        found = await self._log.find_sent(keys)
        if found:
            self._on_stored(sorted(found.values(), key=lambda event: (event.channel_id, event.seq)))
        return found

    async def _drop_stored(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Answer those that the store has after all; the others."""
        found = await self._find([draft.key for draft in drafts])
        left = []
        for draft in drafts:
            event = found.get(draft.key)
            if event is None:
                left.append(draft)
            else:
                draft.answer_stored(self._keep(draft.key, event))
        return left

    async def _ready(self, channel_id: str, drafts: list[Draft]) -> tuple[list[Draft], list[Draft]]:
        """Of one channel: what is built now, and what waits."""
        try:
            allowed = await self._allowed(drafts)
        except _NotYet:
            self._heads.pop(channel_id, None)
            for draft in drafts:
                draft.tries += 1
            return [], drafts
        return self._without_twins(allowed)

    async def _allowed(self, drafts: list[Draft]) -> list[Draft]:
        """Those that may go on this head: a channel begins once, and senders are members as of the last change.
        Raises _NotYet."""
        head = self._heads.get(drafts[0].channel_id)
        if head is None:
            raise _NotYet
        allowed: list[Draft] = []
        refused: dict[Draft, ChatError] = {}
        for draft in drafts:
            try:
                if draft.channel is not None:
                    if head.seq > 0:
                        raise ChatError(Code.CONFLICT, "The channel is there already")
                elif draft.members_seq < head.members_seq:
                    await self._renew(draft, head)
            except ChatError as refusal:
                if refusal.retryable:
                    raise
                refused[draft] = refusal
            else:
                allowed.append(draft)
        if refused:
            # A resend of what was stored while its sender was still allowed gets the first answer.
            for draft in await self._drop_stored(list(refused)):
                draft.answer(None, refused[draft])
        if allowed and self._heads.get(drafts[0].channel_id) is not head:
            # While grants were read the bus brought a later head, perhaps of somebody's removal: what was let
            # through on the older one is looked at again, for it would be built on the later one.
            return await self._allowed(allowed)
        return allowed

    async def _renew(self, draft: Draft, head: Head) -> None:
        grant = await self._conversations.grant(draft.channel_id, draft.sender_id)
        if isinstance(grant, Absence):
            raise ChatError(Code.BANNED if grant is Absence.BANNED else Code.CHANNEL_NOT_FOUND)
        if grant.members_seq < head.members_seq:
            raise _NotYet
        if draft.check is not None:
            pending = draft.check(grant)
            if pending is not None:
                await pending
        draft.members_seq = grant.members_seq

    def _without_twins(self, drafts: list[Draft]) -> tuple[list[Draft], list[Draft]]:
        """A key twice in one batch: the second waits until the first is stored. After a membership change, what
        follows it waits too: its sender may be the one who was removed."""
        first: list[Draft] = []
        later: list[Draft] = []
        keys: set[SendKey] = set()
        for draft in drafts:
            if draft.key in keys or (first and first[-1].kind in MEMBERSHIP_KINDS) or later:
                later.append(draft)
            else:
                keys.add(draft.key)
                first.append(draft)
        return first, later

    def _build(self, channel_id: str, drafts: list[Draft]) -> tuple[Run, Head]:
        head = self._heads[channel_id]
        seq, message_id, messages, members_seq = head.seq, head.message_id, head.messages, head.members_seq
        now = self._now()
        events = []
        for draft in drafts:
            seq += 1
            message_id = next_message_id(now, message_id)
            if draft.kind in MEMBERSHIP_KINDS:
                members_seq = seq
            events.append(
                Event(
                    channel_id,
                    seq,
                    message_id,
                    draft.kind,
                    draft.sender_id,
                    draft.client_msg_id,
                    now,
                    messages,
                    members_seq,
                    draft.text,
                    draft.reply_to,
                    draft.metadata,
                    draft.target_id,
                    draft.emoji,
                    draft.on,
                    draft.users,
                    draft.role,
                    draft.name,
                    draft.retention_s,
                )
            )
            messages += draft.kind is EventKind.MESSAGE
        return Run(channel_id, tuple(events), drafts[0].channel), Head(seq, message_id, messages, members_seq)

    def _remember(self, channel_id: str, head: Head) -> None:
        self._heads[channel_id] = head
        self._heads.move_to_end(channel_id)

    def _keep(self, key: SendKey, event: Event) -> Placed:
        placed = self._sent[key] = Placed(
            event.seq, event.message_id, event.created_at, event.kind, event.target_id
        )
        if len(self._sent) > SENT_MAX:
            self._sent.popitem(last=False)
        return placed
