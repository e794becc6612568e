"""Reading logs for somebody: pages of history, and what is new after cursors. Only ever what they may see now."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.live import Live
from chatkernel.message_ids import message_id_at
from chatkernel.paging import OUTBOX_SHARE, read_behind, window
from chatkernel.protocol import (
    ChannelHead,
    Cursor,
    Cursors,
    Event,
    History,
    HistoryItem,
    Page,
    Resync,
    Sync,
)
from chatkernel.storage.messages import Conversations, EventLog
from chatkernel.storage.model import Absence, Grant, Head, PageQuery


class Reading:
    """Holds no state."""

    def __init__(self, event_log: EventLog, conversations: Conversations, live: Live) -> None:
        self._log, self._conversations, self._live = event_log, conversations, live

    def _page_bytes(self) -> int:
        return self._live.limits.outbox_max_bytes // OUTBOX_SHARE

    async def grant(self, user_id: str, channel_id: str) -> Grant:
        """Raises ChatError(BANNED | CHANNEL_NOT_FOUND)."""
        grant = await self._conversations.grant(channel_id, user_id)
        if isinstance(grant, Absence):
            raise ChatError(Code.BANNED if grant is Absence.BANNED else Code.CHANNEL_NOT_FOUND)
        return grant

    async def history(self, user_id: str, frame: History) -> Page:
        """A page of at most `limit` items, and fewer if they are long. Raises ChatError."""
        given = [name for name in ("before", "after", "around", "at") if getattr(frame, name) is not None]
        if len(given) > 1:
            raise invalid(given[1], f"may not be given together with {given[0]}")
        most = self._live.limits.page_max_items
        if frame.limit > most:
            raise invalid("limit", f"at most {most}", most)
        grant = await self.grant(user_id, frame.channel_id)
        query = PageQuery(
            frame.channel_id, grant.from_seq, frame.limit, frame.before, frame.after, frame.around, frame.at
        )
        page = await self._log.page(query)
        # Read again: whoever was removed meanwhile gets nothing, and whoever was added again nothing from between.
        from_seq = (await self.grant(user_id, frame.channel_id)).from_seq
        items = [item for item in page.items if item.event.seq > from_seq]
        start, end = window(items, _asked_for(frame, items), self._page_bytes())
        return Page(
            frame.id,
            "history",
            channel_id=frame.channel_id,
            items=items[start:end],
            more_before=start > 0 or (page.more_before and len(items) == len(page.items)),
            more_after=end < len(items) or page.more_after,
        )

    def check_cursors(self, cursors: Cursors) -> None:
        if len(cursors) > self._live.limits.cursors_max:
            raise invalid(
                "cursors", f"at most {self._live.limits.cursors_max}", self._live.limits.cursors_max
            )

    async def sync(self, user_id: str, frame: Sync) -> AsyncGenerator[Page | Resync, None]:
        """What is new after the cursors, from the store, in pages.

        Heads come first and grants after them, so that a head is never from after the asker's removal; what is
        sent later on is looked at again by the grants of then. Channels whose cursor is of another log are named
        first (`resync`), and begin at their head.
        """
        self.check_cursors(frame.cursors)
        heads = await self._log.heads(list(frame.cursors))
        grants = await self._grants(user_id)
        theirs = {c: cursor for c, cursor in frame.cursors.items() if c in heads and c in grants}
        strange = await strangers(self._log, theirs, heads)
        if strange:
            yield Resync(strange, reset=True)
        stood = {c: heads[c].seq if c in strange else seq_of(cursor) for c, cursor in theirs.items()}
        behind = {c: (max(seq, grants[c].from_seq), heads[c].seq) for c, seq in stood.items()}
        fresh = True
        async for events, complete in read_behind(
            self._log, behind, self._live.limits.page_max_items, self._page_bytes()
        ):
            if events and not fresh:
                grants = await self._grants(user_id)
            fresh = not events
            visible = [e for e in events if e.channel_id in grants and e.seq > grants[e.channel_id].from_seq]
            done = {c: _end(heads[c], stood[c], grants[c]) for c in complete if c in grants}
            yield Page(frame.id, "sync", events=visible, heads=done, done=False)
        if not fresh:
            grants = await self._grants(user_id)
        yield Page(frame.id, "sync", left=[c for c in frame.cursors if c not in grants])

    async def sync_once(self, user_id: str, frame: Sync) -> list[Page | Resync]:
        """As much of the answer as one page of events holds. If it is not `done`, the asker comes again with its
        cursors moved on: to the `heads`, and elsewhere to the last event. Raises ChatError."""
        answer: list[Page | Resync] = []
        heads: dict[str, ChannelHead] = {}
        events: list[Event] = []
        left: list[str] = []
        done = False
        async with aclosing(self.sync(user_id, frame)) as pages:
            async for page in pages:
                if isinstance(page, Resync):
                    answer.append(page)
                    continue
                heads.update(page.heads)
                events, left, done = events or page.events, page.left, page.done
                if events and frame.cursors.keys() - heads.keys():
                    break
        return [*answer, Page(frame.id, "sync", events=events, heads=heads, left=left, done=done)]

    async def _grants(self, user_id: str) -> dict[str, Grant]:
        found = await self._conversations.grants_of([user_id])
        return {grant.channel_id: grant for grant in found[user_id]}


async def strangers(event_log: EventLog, cursors: Cursors, heads: Mapping[str, Head]) -> list[str]:
    """Channels, of those with a head, whose cursor is of another log: beyond its end, or with another message where
    it stands. A store that was restored from a backup has such clients, and so has another cluster.

    That a cursor is beyond the head as it was read proves nothing: around a failover a store may show less than it
    has acked. What is asked as of now does. (It could have been removed meanwhile; but what is newer than such a head
    is younger than any retention.)
    """
    found: list[str] = []
    asked: list[tuple[str, int]] = []
    beyond: list[tuple[str, int]] = []
    for channel_id, cursor in cursors.items():
        head = heads.get(channel_id)
        if head is None:
            continue
        seq, message_id = place_of(cursor)
        if seq > head.seq:
            beyond.append((channel_id, seq))
        elif seq == head.seq and message_id not in (0, head.message_id):
            found.append(channel_id)
        elif 0 < seq < head.seq and message_id:
            asked.append((channel_id, seq))
    for channel_id, message_id in (await event_log.message_ids(asked)).items():
        if message_id != place_of(cursors[channel_id])[1]:
            found.append(channel_id)
    if beyond:
        there = await event_log.message_ids(beyond, as_of_now=True)
        for channel_id, _ in beyond:
            at = there.get(channel_id)
            if at is None or place_of(cursors[channel_id])[1] not in (0, at):
                found.append(channel_id)
    return found


def _end(head: Head, stood: int, grant: Grant) -> ChannelHead:
    """Where somebody stands who has everything: with a cursor that may be ahead of the head as it was read."""
    seq = max(head.seq, stood)
    return ChannelHead(seq, head.message_id if seq == head.seq else 0, first_seq=first_seq(grant))


def first_seq(grant: Grant) -> int:
    """As `ChannelHead` says it."""
    return grant.from_seq + 1 if grant.from_seq else 0


def place_of(cursor: Cursor) -> tuple[int, int]:
    """The seq and, where the client keeps it, the message id there (else 0)."""
    return (cursor, 0) if isinstance(cursor, int) else (cursor.seq, cursor.cur_max_message_id)


def seq_of(cursor: Cursor) -> int:
    return place_of(cursor)[0]


def _asked_for(frame: History, items: Sequence[HistoryItem]) -> int:
    """Which of the items a page that has no room for all keeps: the nearest to what was asked for."""
    last = max(0, len(items) - 1)
    if frame.after is not None:
        return 0
    if frame.around is not None:
        return next((n for n, item in enumerate(items) if item.event.message_id == frame.around), last)
    if frame.at is not None and items and items[0].event.message_id >= message_id_at(frame.at):
        return 0
    return last
