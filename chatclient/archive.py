"""History through the cache: what this device has seen is not fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from msgspec import Struct

from chatclient.cache import Cache, Stretch
from chatclient.errors import NotKept, Unreachable
from chatkernel.protocol import Event, HistoryItem, Page

KEEP_INTERVAL_S = 0.5
"""Cursors and events are written at most this often; a crash costs only asking for them again."""

FetchPage: TypeAlias = Callable[[str, dict[str, int]], Awaitable[Page]]
"""(channel, the fields of a `history` frame) → the page."""


class HistoryView(Struct, frozen=True):
    """Items rising by seq, and whether there are older and newer ones."""

    items: list[HistoryItem]
    more_before: bool
    more_after: bool = False


class Archive:
    """Writes what was handed on behind the app's back, and answers history from it where it is whole."""

    def __init__(self, cache: Cache, cursors: dict[str, int], fetch: FetchPage) -> None:
        """`cursors` is the sync state's own mapping: it is read at each writing."""
        self._cache, self._cursors, self._fetch = cache, cursors, fetch
        self._kept = dict(cursors)
        self._events: list[Event] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, events: Sequence[Event]) -> None:
        """These were handed to the app."""
        self._events.extend(events)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEP_INTERVAL_S, self.flush)

    def flush(self) -> bool:
        """Writes what is not yet written. False: the disk would not take it, and it waits for the next time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moved = {name: seq for name, seq in self._cursors.items() if self._kept.get(name) != seq}
        gone = self._kept.keys() - self._cursors.keys()
        if moved or gone or self._events:
            try:
                self._cache.keep(self._events, moved, gone)
            except NotKept:
                return False
            self._events = []
            self._kept = dict(self._cursors)
        return True

    def forget_before(self, first_seqs: dict[str, int]) -> None:
        """Channel to the first seq that there still is to see."""
        self.flush()
        with suppress(NotKept):  # said again at the next sync
            self._cache.drop_before(first_seqs)

    def close(self) -> None:
        self.flush()
        self._cache.close()

    async def before(self, channel_id: str, before: int | None, limit: int) -> HistoryView:
        """Up to `limit` items before a seq (None: the newest). What only the server has is fetched and
        kept."""
        cursor = self._cursors.get(channel_id)
        if not self.flush():
            # What is kept lacks the newest changes, and may not be written past them.
            return _view(await self._fetch(channel_id, _fields(before, limit)))
        top = before if before is not None else None if cursor is None else cursor + 1
        known = Stretch([], 0) if top is None else self._cache.before(channel_id, top, limit)
        if top is None or known is None:
            return await self._fetch_before(channel_id, before, limit, cursor)
        missing = limit - len(known.items)
        if missing <= 0 or known.low <= 1:
            return HistoryView(known.items, known.low > 1 or missing <= 0)
        try:
            older = await self._fetch_before(channel_id, known.low, missing, cursor)
        except Unreachable:
            return HistoryView(known.items, True)
        return HistoryView([*older.items, *known.items], older.more_before)

    async def _fetch_before(
        self, channel_id: str, before: int | None, limit: int, cursor: int | None
    ) -> HistoryView:
        page = await self._fetch(channel_id, _fields(before, limit))
        last = page.items[-1].event.seq if page.items else 0
        # The newest page is whole up to where we knew the channel to stand when we asked.
        high = before - 1 if before is not None else max(last, cursor or 0)
        low = page.items[0].event.seq if page.more_before and page.items else 0
        if high >= low:
            with suppress(NotKept):  # it is fetched again the next time
                self._cache.put_page(channel_id, page.items, low, high)
        return _view(page)


def _fields(before: int | None, limit: int) -> dict[str, int]:
    return {"limit": limit} if before is None else {"limit": limit, "before": before}


def _view(page: Page) -> HistoryView:
    return HistoryView(page.items, page.more_before)
