"""A list of thousands of conversations costs a few statements a page, whatever the number of its lines."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import pytest
from channel_log import ChannelLog
from sqlalchemy import Connection

from chatkernel.protocol import EventKind
from chatkernel.storage.model import ConversationPage, InsertOutcome, Run
from chatkernel.storage.sql import SqlStore, open_sql
from chatkernel.storage.sql.conversation_list import conversations

CONVERSATIONS = 5_000
LIMIT = 50
STATEMENTS_PER_PAGE = 4
"""Lines, last messages, their reactions, a few other members."""


def listed(conn: Connection, cursor: str | None) -> tuple[ConversationPage, list[str]]:
    """A page, and the statements that it took."""
    statements: list[str] = []
    driver: sqlite3.Connection = conn.connection.driver_connection  # type: ignore[assignment]
    driver.set_trace_callback(statements.append)
    try:
        return conversations(conn, "u_ann", cursor, LIMIT, False), statements
    finally:
        driver.set_trace_callback(None)


async def fill(store: SqlStore) -> None:
    """Each with one message."""
    runs = []
    for _ in range(CONVERSATIONS):
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        runs.append(Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_bob", text="hi"),)))
    for start in range(0, CONVERSATIONS, 500):
        part = runs[start : start + 500]
        assert await store.insert(part) == [InsertOutcome.STORED] * len(part)


@pytest.mark.slow
async def test_each_page_is_a_few_statements(tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    await fill(store)
    seen: set[str] = set()
    cursor: str | None = None
    for _ in range(CONVERSATIONS // LIMIT):
        page, statements = await store._db.read(partial(listed, cursor=cursor))
        assert 1 <= len(statements) <= STATEMENTS_PER_PAGE, statements
        assert all(line.unread == 1 and line.last_message is not None for line in page.conversations)
        seen |= {line.channel_id for line in page.conversations}
        cursor = page.next_cursor
    await store.aclose()
    assert cursor is None and len(seen) == CONVERSATIONS
