"""The port EventLog on SQL."""

from __future__ import annotations

from collections.abc import Sequence

from chatkernel.protocol import Event, HistoryItem
from chatkernel.storage.model import EventRange, Head, HistoryPage, InsertOutcome, PageQuery, Run, SendKey
from chatkernel.storage.sql import append, history
from chatkernel.storage.sql.runner import Runner


class SqlEventLog:
    _db: Runner

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        if not runs:
            return []
        return await self._db.write(
            lambda conn: append.insert_runs(conn, runs),
            lambda conn: append.insert_messages(conn, runs),
        )

    async def heads(self, channel_ids: Sequence[str], *, within_s: float | None = None) -> dict[str, Head]:
        if not channel_ids:
            return {}
        found = await self._db.look(lambda conn: history.heads(conn, channel_ids))
        await self._db.settle()
        return found

    async def message_ids(
        self, places: Sequence[tuple[str, int]], *, as_of_now: bool = False
    ) -> dict[str, int]:
        if not places:
            return {}
        if as_of_now:
            # No standby was promoted before this has ended: it would have waited for that one in vain.
            await self._db.confirm()
        return await self._db.look(lambda conn: history.message_ids(conn, places))

    async def find_sent(self, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
        if not keys:
            return {}
        found = await self._db.look(lambda conn: history.find_sent(conn, keys))
        if found:
            # Who asks is about to ack: what can be read after a lost connection or a restart need not be on the
            # standby yet.
            await self._db.confirm()
        return found

    async def events(self, ranges: Sequence[EventRange]) -> list[list[Event]]:
        if not ranges:
            return []
        found = await self._db.look(lambda conn: history.events_in(conn, ranges))
        await self._db.settle()
        return found

    async def page(self, query: PageQuery) -> HistoryPage:
        return await self._db.read(lambda conn: history.page(conn, query))

    async def message(self, channel_id: str, message_id: int) -> HistoryItem | None:
        return await self._db.read(lambda conn: history.message(conn, channel_id, message_id))
