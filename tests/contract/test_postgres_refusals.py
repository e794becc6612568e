"""What is wrong with a PostgreSQL, its tables or its URL is told by a sentence with no secret and no value in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channel_log import ChannelLog
from support.postgres import PASSWORD, Postgres, drop_database, fresh_database

import chatkernel.storage.sql.postgres_engine as engine_module
from chatkernel.errors import ChatError, Code, StoreRefuses
from chatkernel.protocol import EventKind
from chatkernel.storage.model import InsertOutcome, Run, User
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore

pytestmark = pytest.mark.stores


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    name = fresh_database(postgres, "template_chat")
    yield name
    drop_database(postgres, name)


@pytest.fixture
async def sql(postgres: Postgres, database: str) -> AsyncIterator[SqlStore]:
    store = await open_store(postgres.url(database))
    assert isinstance(store, SqlStore)
    yield store
    await store.aclose()


async def refusal(url: str) -> ChatError:
    store = await open_store(url)
    with pytest.raises(ChatError) as refused:
        await store.check()
    await store.aclose()
    return refused.value


async def test_errors_do_not_show_values(
    sql: SqlStore, postgres: Postgres, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server names them in its details, and a traceback of a fault goes to the log."""
    name, password_hash, text = (f"secret-{what}" for what in ("name", "hash", "text"))
    postgres.sql("ALTER TABLE users ADD CHECK (created_at > 5)", database)
    postgres.sql("ALTER TABLE events ADD CONSTRAINT odd CHECK (kind = 'created')", database)
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    run = Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text=text),))

    def refused_by_the_statement(conn: Any) -> None:
        from chatkernel.storage.sql.append import _store

        _store(conn, [run])

    with caplog.at_level(logging.ERROR):
        for call in (
            lambda: sql.create_user(User("u_1", name, name, 1), password_hash),
            lambda: sql._db.write(refused_by_the_statement),
        ):
            try:
                await call()
            except Exception:
                logging.getLogger("test").exception("failed")
    assert caplog.text.count("violates check constraint") >= 2
    assert "secret" not in caplog.text


async def test_a_full_disk_is_told(sql: SqlStore, postgres: Postgres, database: str) -> None:
    postgres.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
        database,
    )
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    postgres.sql("CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()", database)
    run = Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text="hi"),))
    with pytest.raises(ChatError) as refused:
        await sql.insert([run])
    assert refused.value.code is Code.STORAGE_FULL
    postgres.sql("DROP TRIGGER full_disk ON events", database)
    assert await sql.insert([run]) == [InsertOutcome.STORED]


async def test_a_database_without_tables_says_so(postgres: Postgres) -> None:
    name = fresh_database(postgres)
    store = await open_store(postgres.url(name))
    for call in (store.check, lambda: store.heads(["local_gx"])):
        with pytest.raises(ChatError, match="schema apply"):
            await call()
    await store.aclose()
    drop_database(postgres, name)


async def test_a_later_version_is_refused(sql: SqlStore, postgres: Postgres, database: str) -> None:
    postgres.sql("UPDATE schema_version SET version = 99", database)
    for method in (sql.check, sql.ensure_schema):
        with pytest.raises(ChatError, match="version 99"):
            await method()


async def test_a_wrong_password_or_database_is_told_without_either(postgres: Postgres) -> None:
    wrong = await refusal(postgres.url().replace(PASSWORD, "another-secret"))
    assert (wrong.code, wrong.detail) == (
        Code.STORAGE_UNAVAILABLE,
        "The database refuses our credentials",
    )
    assert "another-secret" not in repr(wrong.__cause__)
    missing = await refusal(postgres.url("nowhere"))
    assert missing.detail == "There is no such database"
    assert isinstance(wrong, StoreRefuses)
    assert isinstance(missing, StoreRefuses)


async def test_a_server_that_is_too_old_is_refused(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SERVER_VERSION_MIN", 99)
    assert "99 or later" in (await refusal(postgres.url())).detail


async def test_a_database_that_cannot_hold_every_character_is_refused(postgres: Postgres) -> None:
    postgres.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    assert "UTF8" in (await refusal(postgres.url("latin"))).detail


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?pool_size=0", "pool_size"),
        ("?pool_size=many", "int"),
        ("?timeout_s=-1", "timeout_s"),
        ("?sslmode=perhaps", "usable"),
        ("?x", "URL"),
    ],
)
async def test_a_url_that_cannot_be_meant_is_refused_without_being_quoted(query: str, said: str) -> None:
    url = f"postgresql://ann:top-secret@127.0.0.1:1/chat{query}"
    with pytest.raises(ChatError, match=said) as refused:
        await (await open_store(url)).check()
    assert refused.value.field == "store_url"
    causes, error = [], refused.value
    while error is not None:
        causes.append(repr(error))
        error = error.__cause__  # type: ignore[assignment]
    assert "secret" not in "".join(causes)


async def test_order_is_by_code_point_whatever_the_database_was_made_with(postgres: Postgres) -> None:
    name = fresh_database(postgres, "template0 LC_COLLATE 'C.UTF-8'")
    store = await open_store(postgres.url(name))
    await store.ensure_schema()
    found = postgres.sql(
        "SELECT DISTINCT collation_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'",
        name,
    )
    assert found == "C"
    await store.aclose()
    drop_database(postgres, name)


async def test_a_caller_that_gives_up_harms_nobody(sql: SqlStore) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    reads = [asyncio.create_task(sql.heads([log.channel_id])) for _ in range(20)]
    await asyncio.sleep(0.005)
    for read in reads[::2]:
        read.cancel()
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(result, dict) for result in results[1::2])
    assert (await sql.heads([log.channel_id]))[log.channel_id].seq == 1


async def test_closing_finishes_what_was_submitted(postgres: Postgres, database: str) -> None:
    store = await open_store(postgres.url(database))
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    write = asyncio.create_task(log.say("u_ann", "hi"))
    await asyncio.sleep(0)
    await store.aclose()
    await write
    await store.aclose()
    with pytest.raises(ChatError) as refused:
        await store.heads([log.channel_id])
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
