"""How tables come to be: on an empty store and on one of an earlier version, by one process of many."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from channel_log import START_MS, ChannelLog
from sessions import opened
from sqlalchemy import Connection
from stores import STORES

import chatkernel.storage.sql.store as store_module
from chatkernel.errors import ChatError
from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import (
    Absence,
    EventRange,
    FriendState,
    Grant,
    PageQuery,
    RefreshOutcome,
    UserSettings,
)
from chatkernel.storage.open import Store, open_store
from chatkernel.storage.sql import SqlStore, migrations
from chatkernel.storage.sql.schema import SCHEMA_VERSION, metadata
from chatkernel.storage.sql.statements import is_postgres

FILES = Path(__file__).parent
"""Where files are as versions 2 and 3 of this software left them, from before there were revisions."""
_TRIGGERS = "DROP TRIGGER events_move_head; DROP TRIGGER events_read_by_sender;"
OLD_FILES = {
    1: ("sqlite_version_2.sql", f"{_TRIGGERS} UPDATE schema_version SET version = 1;"),
    2: ("sqlite_version_2.sql", ""),
    3: ("sqlite_version_3.sql", ""),
}
"""By version: a file, and how that of the version differs."""


@pytest.fixture(params=["postgres", "sqlite"])
def sql_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with STORES[request.param](request, False) as url:
        yield url


@pytest.fixture
async def store(sql_url: str) -> AsyncIterator[SqlStore]:
    async with opened(sql_url) as store:
        yield store


async def test_the_revisions_make_what_the_schema_says(store: SqlStore) -> None:
    def differences(conn: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata)

    assert await store._db.migrate(differences) == []


async def test_the_last_revision_has_the_number_of_the_schema(store: SqlStore) -> None:
    def upgraded(conn: Connection) -> int:
        return migrations.upgrade(conn, SCHEMA_VERSION)

    assert await store._db.migrate(upgraded) == SCHEMA_VERSION


@pytest.mark.parametrize("version", OLD_FILES)
async def test_a_file_of_an_earlier_version_is_taken_over_with_all_that_is_in_it(
    version: int, tmp_path: Path
) -> None:
    name, differs = OLD_FILES[version]
    with closing(sqlite3.connect(tmp_path / "chat.db")) as file:
        file.executescript((FILES / name).read_text() + differs)
    store = await open_store(f"sqlite:///{tmp_path}/chat.db")
    assert isinstance(store, SqlStore)
    if version < SCHEMA_VERSION:
        with pytest.raises(ChatError, match=rf"version {version}.*ensure_schema"):
            await store.check()
    await store.ensure_schema()
    await store.check()
    await everything_is_there(store)
    assert await made_of(store) == await made_of_new(tmp_path)
    await store.aclose()


async def made_of_new(tmp_path: Path) -> list[tuple[str, str]]:
    async with opened(f"sqlite:///{tmp_path}/new.db") as new:
        return await made_of(new)


async def made_of(store: SqlStore) -> list[tuple[str, str]]:
    """What a file consists of, but for how the tables are written down: a test of its own compares those."""

    def listed(conn: Connection) -> list[tuple[str, str]]:
        rows = conn.exec_driver_sql("SELECT name, type, sql FROM sqlite_master ORDER BY name")
        return [(name, kind if kind == "table" else f"{kind} {sql}") for name, kind, sql in rows]

    return await store._db.look(listed)


async def everything_is_there(store: Store) -> None:
    team = "local_gteam"
    page_of_ann = await store.conversations("u_ann", cursor=None, limit=5, archived=False)
    [line] = page_of_ann.conversations
    assert line.last_message is not None and line.last_message.event.text == "second 🙂"
    [events] = await store.events([EventRange(team, 0, 100)])
    assert [event.seq for event in events] == [1, 2, 3, 4, 5, 6]
    page = await store.page(PageQuery(team, 0, 10))
    assert [item.event.text for item in page.items if item.event.kind is EventKind.MESSAGE] == [
        "first, mended",
        "second 🙂",
    ]
    assert [item.reactions for item in page.items if item.reactions] == [{"👍": ["u_bob"]}]
    granted = await store.grant(team, "u_ann")
    assert isinstance(granted, Grant) and granted.role is Role.OWNER
    assert await store.grant(team, "u_eve") is Absence.BANNED
    assert await store.unread("u_bob", [team]) == {team: 0}
    assert await store.credentials("ANN") is not None
    assert [friend.state for friend in (await store.friends("u_bob")).friends] == [FriendState.PENDING]
    assert await store.settings("u_ann") == UserSettings({"theme": "dark"}, 1)
    rotated = await store.rotate_refresh("token", "next", START_MS, START_MS + 1)
    assert rotated.outcome is RefreshOutcome.ROTATED
    log = ChannelLog(store, team)
    log.seq, log.messages, log.members_seq = 6, 2, 6
    await log.say("u_ann", "third")
    assert (await store.heads([team]))[team].seq == 7


NEXT = """
from alembic import op
from sqlalchemy import Column, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("users", Column("motto", Text, nullable=False, server_default="none"))
"""


async def test_a_later_revision_is_run_once_by_many_processes(
    store: SqlStore, sql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are stores of this process here, with connections of their own; older software is refused from then on."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    folder = tmp_path / "migrations"
    shutil.copytree(migrations.FOLDER, folder)
    (folder / "versions" / "v0004_motto.py").write_text(NEXT)

    def upgrade(conn: Connection, version: int) -> int:
        return real(conn, version, folder)

    real = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", upgrade)
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 4)
    with pytest.raises(ChatError, match=r"version 3, not 4.*ensure_schema"):
        await store.check()
    others = [await open_store(sql_url) for _ in range(4)]
    await asyncio.gather(*(other.ensure_schema() for other in others))
    await asyncio.gather(*(other.check() for other in others))
    for other in others:
        await other.aclose()
    await log.say("u_ann", "hi")
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", 3)
    for method in (store.check, store.ensure_schema):
        with pytest.raises(ChatError, match="version 4"):
            await method()


async def test_a_revision_that_fails_leaves_nothing_behind(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade(conn: Connection, version: int) -> int:
        real(conn, version)
        raise RuntimeError("half-way")

    real = migrations.upgrade
    monkeypatch.setattr(migrations, "upgrade", upgrade)
    store = await open_store(sql_url)
    with pytest.raises(RuntimeError, match="half-way"):
        await store.ensure_schema()
    monkeypatch.setattr(migrations, "upgrade", real)
    with pytest.raises(ChatError, match="no tables"):
        await store.check()
    await store.ensure_schema()
    await store.check()
    await store.aclose()


async def test_the_tables_themselves_refuse_what_does_not_follow_the_head(store: SqlStore) -> None:
    """Whoever writes: here past the adapter's own insert."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")

    def odd(rows: str) -> Callable[[Connection], None]:
        def insert(conn: Connection) -> None:
            listed = "true" if is_postgres(conn) else "1"
            conn.exec_driver_sql(
                "INSERT INTO events (channel_id, seq, message_id, kind, sender_id, client_msg_id, created_at,"
                " messages_before, members_seq, listed)"
                f" SELECT '{log.channel_id}', column1, column2, 'message', 'u_ann', 'x' || column1, 0, column1, 1,"
                f" {listed} FROM (VALUES {rows}) given"
            )

        return insert

    head = (await store.heads([log.channel_id]))[log.channel_id]
    behind, ahead = head.message_id - 1, head.message_id + 1
    for rows in (
        f"(9, {ahead})",  # a hole before it
        f"(2, {behind})",  # an id that does not rise
        f"(2, {ahead}), (4, {ahead + 1})",  # a hole within
        f"(2, {ahead + 1}), (3, {ahead})",  # ids that fall within
    ):
        with pytest.raises(ChatError, match=r"IntegrityConstraintViolation|SQLITE_CONSTRAINT_TRIGGER"):
            await store._db.write(odd(rows))
    assert (await store.heads([log.channel_id]))[log.channel_id] == head
    await store._db.write(odd(f"(2, {ahead}), (3, {ahead + 1})"))
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == 3
