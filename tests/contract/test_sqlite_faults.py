"""What SQLite can do to us, told in the catalogue's errors: locked, full, damaged, not a database."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from channel_log import ChannelLog
from sqlalchemy import Connection

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind
from chatkernel.storage.model import Head, InsertOutcome, Run, User
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore, open_sql

LOCK_WAIT_S = 0.3


@pytest.fixture
async def sql(tmp_path: Path):
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db", lock_wait_s=LOCK_WAIT_S)
    await store.ensure_schema()
    yield store
    await store.aclose()


def other_process(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "chat.db", isolation_level=None)


async def test_a_write_waits_for_another_process(sql: SqlStore, tmp_path: Path) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    with closing(other_process(tmp_path)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(log.say("u_ann", "hi"))
        # Reads go on meanwhile.
        assert (await sql.heads([log.channel_id]))[log.channel_id].seq == 1
        assert not writing.done()
        other.execute("COMMIT")
        await writing
    assert (await sql.heads([log.channel_id]))[log.channel_id].seq == 2


async def test_a_lock_beyond_the_limit_is_retryable_and_stores_nothing(sql: SqlStore, tmp_path: Path) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    run = Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text="hi"),))
    with closing(other_process(tmp_path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ChatError) as refused:
            await sql.insert([run])
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    assert refused.value.retryable
    assert await sql.insert([run]) == [InsertOutcome.STORED]


async def test_a_full_disk_is_told_and_passes(sql: SqlStore) -> None:
    """No partial run is left, reads go on, and with space again the same run is stored."""

    def limit_pages(pages: int):
        def set_limit(conn: Connection) -> None:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        return set_limit

    log = ChannelLog(sql)
    created = await log.create("u_ann", "u_bob")
    events = tuple(log.event(EventKind.MESSAGE, "u_ann", text="x" * 16_000) for _ in range(20))
    run = Run(log.channel_id, events)
    await sql._db.write(limit_pages(1))
    with pytest.raises(ChatError) as refused:
        await sql.insert([run])
    assert refused.value.code is Code.STORAGE_FULL
    assert await sql.heads([log.channel_id]) == {log.channel_id: Head(1, created.message_id, 0, 1)}
    await sql._db.write(limit_pages(1_000_000))
    assert await sql.insert([run]) == [InsertOutcome.STORED]


async def test_one_failed_write_does_not_take_others_of_its_commit_with_it(sql: SqlStore) -> None:
    made = await asyncio.gather(
        *(sql.create_user(User(f"u_{n}", f"name{n // 2}", "x", 1), "") for n in range(20)),
        return_exceptions=True,
    )
    assert [type(result) for result in made].count(ChatError) == 10
    assert len(await sql.users([f"u_{n}" for n in range(20)])) == 10


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_bytes(b"this is not a database, it is a letter. " * 500)
    with pytest.raises(ChatError, match=r"chat\.db: .*not a database") as refused:
        await open_sql(f"sqlite:///{tmp_path}/chat.db")
    assert refused.value.code is Code.STORAGE_UNAVAILABLE


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    store = await open_sql(f"sqlite:///{path}")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 500)
    await store.aclose()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = b"\xa5" * 20_000
    path.write_bytes(data)
    with pytest.raises(ChatError, match=r"chat\.db: .*damaged.*backup"):
        await open_sql(f"sqlite:///{path}")


async def test_a_later_version_is_refused(sql: SqlStore, tmp_path: Path) -> None:
    with closing(other_process(tmp_path)) as other:
        other.execute("UPDATE schema_version SET version = 99")
    for method in (sql.check, sql.ensure_schema):
        with pytest.raises(ChatError, match="version 99"):
            await method()


async def test_a_store_without_tables_says_so(tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/new/chat.db")
    with pytest.raises(ChatError, match="ensure_schema"):
        await store.check()
    with pytest.raises(ChatError, match="ensure_schema"):
        await store.heads(["local_gx"])
    await store.aclose()


@pytest.mark.parametrize(
    "url", ["", "postgresql://db", "mongodb://", "sqlite://", "sqlite:///:memory:", "x y"]
)
async def test_a_url_that_cannot_be_opened_names_the_setting(url: str) -> None:
    with pytest.raises(ChatError) as refused:
        await open_store(url)
    assert (refused.value.code, refused.value.field) == (Code.INVALID_FIELD, "store_url")


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ChatError) as refused:
        await open_sql(f"sqlite:///{tmp_path}/file/chat.db")
    assert refused.value.code is Code.STORAGE_UNAVAILABLE


async def test_closing_finishes_what_was_submitted(tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    writes = [asyncio.create_task(log.say("u_ann", str(n))) for n in range(1)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*writes)
    await store.aclose()
    with pytest.raises(ChatError) as refused:
        await store.heads([log.channel_id])
    assert refused.value.code is Code.STORAGE_UNAVAILABLE


async def test_a_caller_that_gives_up_harms_nobody(sql: SqlStore) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    reads = [asyncio.create_task(sql.heads([log.channel_id])) for _ in range(20)]
    await asyncio.sleep(0)
    for read in reads[::2]:
        read.cancel()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(result, dict) for result in results[1::2])
    assert (await sql.heads([log.channel_id]))[log.channel_id].seq == 1


async def test_errors_do_not_show_values(
    sql: SqlStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback of a storage fault goes to the log: no text and no password hash may be in it."""
    with closing(other_process(tmp_path)) as other:
        other.execute("DROP TABLE users")
    name, password_hash = "".join(("sec", "ret")), "".join(("ha", "sh"))
    with caplog.at_level(logging.ERROR):
        try:
            await sql.create_user(User("u_1", name, "x", 1), password_hash)
        except ChatError:
            logging.getLogger("test").exception("failed")
    assert "no such table" in caplog.text
    assert "[SQL parameters hidden" in caplog.text
    assert name not in caplog.text


async def test_an_sqlite_that_is_too_old_is_refused_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 39, 4))
    with pytest.raises(ChatError) as refused:
        await open_store(f"sqlite:///{tmp_path}/chat.db")
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    assert "3.39.4" in refused.value.detail and "3.40.0" in refused.value.detail
    assert not list(tmp_path.iterdir())
