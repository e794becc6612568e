"""Somebody else at the same PostgreSQL: who holds locks, and sees who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from channel_log import ChannelLog
from support.postgres import Postgres

from chatkernel.protocol import EventKind
from chatkernel.storage.model import Run, SendKey
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore

BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = '{}'"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    store = await open_store(url)
    assert isinstance(store, SqlStore)
    await store.ensure_schema()
    yield store
    await store.aclose()


@asynccontextmanager
async def other_session(server: Postgres, store: SqlStore) -> AsyncIterator[asyncpg.Connection]:
    session = await asyncpg.connect(server.url(store.database))  # type: ignore[attr-defined]
    try:
        yield session
    finally:
        await session.close()


async def blocked(session: asyncpg.Connection, kind: str = "Lock", at_least: int = 1) -> int:
    """The process id of a backend of ours that waits, once so many do."""
    async with asyncio.timeout(10):
        while True:
            # Within a transaction the server shows what it saw the first time, unless it is told to look again.
            await session.execute("SELECT pg_stat_clear_snapshot()")
            found = await session.fetch(BLOCKED.format(kind) + " AND pid <> pg_backend_pid()")
            if len(found) >= at_least:
                return int(found[0][0])
            await asyncio.sleep(0.02)


def one_message(log: ChannelLog) -> Run:
    return Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text="hi"),))


def key_of(run: Run) -> SendKey:
    return SendKey(run.channel_id, run.events[0].sender_id, run.events[0].client_msg_id)
