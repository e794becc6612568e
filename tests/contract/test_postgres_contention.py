"""Others at the same PostgreSQL: locks, deadlocks, serialisation failures, and no connection left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest
from channel_log import ChannelLog
from sessions import blocked, one_message, opened, other_session
from sqlalchemy import Connection
from sqlalchemy.util import await_only
from support.postgres import Postgres, fresh_database

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import (
    EventRange,
    InsertOutcome,
    User,
    Watermark,
)
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore
from chatkernel.storage.sql.statements import Write, command

pytestmark = pytest.mark.stores


async def test_a_long_lock_is_waited_for_and_then_told(sql: SqlStore, postgres: Postgres) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    run = one_message(log)
    async with other_session(postgres, sql) as other:
        async with other.transaction():
            await other.execute("LOCK TABLE events IN EXCLUSIVE MODE")
            writing = asyncio.create_task(sql.insert([run]))
            await blocked(other)
            # Reads go on meanwhile.
            assert [len(events) for events in await sql.events([EventRange(log.channel_id, 0, 9)])] == [1]
            with pytest.raises(ChatError, match="locked") as refused:
                await writing
            assert refused.value.code is Code.STORAGE_UNAVAILABLE
            writing = asyncio.create_task(sql.insert([run]))
            await blocked(other)
        assert await writing == [InsertOutcome.STORED]


async def test_who_holds_a_lock_and_dies_is_ended_by_the_server(sql: SqlStore, postgres: Postgres) -> None:
    """A frozen pod in the middle of a transaction must not stop a channel for the others."""
    settings = await sql._db.look(
        lambda conn: conn.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
    )
    assert settings == "1600ms"


_rename = Write("UPDATE users SET display_name = 'x' WHERE user_id = :user_id")


async def test_a_deadlock_is_tried_again(sql: SqlStore, postgres: Postgres) -> None:
    for name in ("ann", "bob"):
        await sql.create_user(User(f"u_{name}", name, name, 1), "")

    def both(conn: Connection) -> None:
        runs.append(1)
        for name in ("u_ann", "u_bob"):
            _rename.run(conn, {"user_id": name})

    runs: list[int] = []
    async with other_session(postgres, sql) as other:
        # We are the one that finds it, and so the one that is undone.
        await other.execute("SET deadlock_timeout = '60s'")
        async with other.transaction():
            await other.execute("UPDATE users SET about = 'y' WHERE user_id = 'u_bob'")
            writing = asyncio.create_task(sql._db.write(both))
            await blocked(other)
            await other.execute("UPDATE users SET about = 'y' WHERE user_id = 'u_ann'")
        await writing
    assert len(runs) > 1
    assert (await sql.users(["u_bob"]))["u_bob"].display_name == "x"


async def test_writers_that_meet_in_many_channels_wait_for_each_other_and_not_in_a_circle(
    sql: SqlStore, postgres: Postgres
) -> None:
    """Both are held up at a channel in the middle: had each come from another end, neither could go on."""
    logs = [ChannelLog(sql) for _ in range(7)]
    for log in logs:
        await log.create("u_ann", "u_bob")
    runs = [one_message(log) for log in logs]
    async with other_session(postgres, sql) as other:
        held = other.transaction()
        await held.start()
        await other.execute(
            "INSERT INTO events SELECT channel_id, 2, message_id + 1, 'message', 'u_eve', 'x', 1, 0, 1, true"
            " FROM events WHERE channel_id = $1",
            logs[3].channel_id,
        )
        first = asyncio.create_task(sql.insert(runs))
        await blocked(other)
        second = asyncio.create_task(sql.insert(runs[::-1]))
        await blocked(other, at_least=2)
        await held.rollback()
        assert await first == [InsertOutcome.STORED] * 7
        assert await second == [InsertOutcome.REFUSED] * 7


async def test_marks_that_wait_for_each_other_never_go_back(sql: SqlStore, postgres: Postgres) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_bob", 9)
    async with other_session(postgres, sql) as other:
        async with other.transaction():
            await other.execute("SELECT 1 FROM memberships WHERE user_id = 'u_ann' FOR UPDATE")
            further = asyncio.create_task(sql.put_watermarks([Watermark(log.channel_id, "u_ann", 9, 9)]))
            await blocked(other)
            behind = asyncio.create_task(sql.put_watermarks([Watermark(log.channel_id, "u_ann", 5, 5)]))
            await blocked(other, at_least=2)
        await further
        [state] = await behind
    assert state is not None and (state.read_seq, state.unread, state.moved) == (9, 1, False)


async def test_a_serialisation_failure_is_tried_again(sql: SqlStore) -> None:
    """Of two transactions that read what the other writes."""
    for name in ("ann", "bob"):
        await sql.create_user(User(f"u_{name}", name, name, 1), "")
    runs: list[str] = []

    async def meet() -> None:
        async with asyncio.timeout(5):
            await both_read.wait()

    both_read = asyncio.Event()

    def copy(source: str, target: str) -> Callable[[Connection], None]:
        def work(conn: Connection) -> None:
            command(conn, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            about = conn.exec_driver_sql(f"SELECT about FROM users WHERE user_id = '{source}'").scalar()
            runs.append(source)
            if len(runs) == 2:
                both_read.set()
            await_only(meet())
            conn.exec_driver_sql(f"UPDATE users SET about = '{about}+' WHERE user_id = '{target}'")

        return work

    await asyncio.gather(sql._db.write(copy("u_ann", "u_bob")), sql._db.write(copy("u_bob", "u_ann")))
    assert len(runs) > 2
    assert sorted(user.about for user in (await sql.users(["u_ann", "u_bob"])).values()) == ["+", "++"]


async def test_when_all_our_connections_are_in_use_the_store_is_busy(postgres: Postgres) -> None:
    name = fresh_database(postgres, "template_chat")
    async with opened(postgres.url(name, pool_size=1, pool_wait_s=0.2)) as store:
        store.database = name  # type: ignore[attr-defined]
        async with other_session(postgres, store) as other, other.transaction():
            await other.execute("LOCK TABLE users")
            waiting = asyncio.create_task(store.user_by_name("ann"))
            await blocked(other)
            with pytest.raises(ChatError) as refused:
                await store.user_by_name("ann")
            assert (refused.value.code, refused.value.retry_after_s) == (Code.BUSY, 1.0)
            await other.execute("SELECT 1")
            waiting.cancel()


async def test_when_the_server_has_no_connection_left_the_store_is_busy(server: Postgres) -> None:
    async with opened(server.url(fresh_database(server))) as store:
        await store.aclose()
        store = await open_store(server.url(fresh_database(server)))
        taken: list[asyncpg.Connection] = []
        with pytest.raises(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await asyncpg.connect(server.url()))
        with pytest.raises(ChatError) as refused:
            await store.check()
        assert (refused.value.code, refused.value.retry_after_s) == (Code.BUSY, 1.0)
        for connection in taken:
            await connection.close()
        await store.ensure_schema()
        await store.aclose()
