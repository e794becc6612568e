"""Every prepared statement finds its rows by an index, whatever the size of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prepared import STATEMENTS
from sqlalchemy import Connection

from chatkernel.storage.sql import open_sql
from chatkernel.storage.sql.schema import metadata
from chatkernel.storage.sql.statements import Query, Write


def plan(conn: Connection, statement: Query | Write) -> str:
    size = 4 if statement._width else 0
    sql, _ = statement._text(conn, size)
    rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?"))
    return "\n".join(row[3] for row in rows)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_no_statement_reads_a_whole_table(name: str, tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    steps = await store._db.read(lambda conn: plan(conn, STATEMENTS[name]))
    await store.aclose()
    aliases = "|".join([*metadata.tables, "[cdeimorulhf]"])
    assert not re.search(rf"SCAN ({aliases})\b(?! USING)", steps), steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("history._older", "events_listed"),
        ("history._newer", "events_listed"),
        ("history._ranges", "PRIMARY KEY (channel_id=? AND seq>? AND seq<?)"),
        ("history._sent", "(channel_id=? AND sender_id=? AND client_msg_id=?)"),
        ("history._seq_at", "events_listed"),
        ("conversation_list._lines", "COVERING INDEX memberships_of_user (user_id=? AND archived=?)"),
        ("conversations._grants_of", "memberships_of_user"),
        ("conversations._channels_of", "COVERING INDEX memberships_of_user"),
        ("effects._edit", "events_listed"),
        ("effects._forget_edits", "PRIMARY KEY (channel_id=? AND target_id=?)"),
    ],
)
async def test_hot_reads_use_their_index(name: str, index: str, tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    steps = await store._db.read(lambda conn: plan(conn, STATEMENTS[name]))
    await store.aclose()
    assert index in steps, steps
    if name.startswith("history._"):
        assert "TEMP B-TREE" not in steps, steps
