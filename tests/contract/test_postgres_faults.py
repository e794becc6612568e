"""What a PostgreSQL server can do to us while people send: killed, frozen, failed over, locked, out of connections.

What was acked is there, and all that is told is retryable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from channel_log import ChannelLog
from senders import sending
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.util import await_only
from support.postgres import Postgres, fresh_database, postgres_server, standby_of

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind
from chatkernel.storage.model import (
    Device,
    EventRange,
    FriendAction,
    FriendState,
    InsertOutcome,
    RefreshOutcome,
    Run,
    SendKey,
    User,
    Watermark,
)
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore
from chatkernel.storage.sql.statements import Write, command

BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = '{}'"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One to break."""
    with postgres_server(max_connections=20) as started:
        yield started


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    store = await open_store(url)
    assert isinstance(store, SqlStore)
    await store.ensure_schema()
    yield store
    await store.aclose()


@pytest.fixture
async def sql(postgres: Postgres) -> AsyncIterator[SqlStore]:
    name = fresh_database(postgres, "template_chat")
    async with opened(postgres.url(name, timeout_s=2)) as store:
        store.database = name  # type: ignore[attr-defined]
        yield store


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


# --- the server is gone --------------------------------------------------------------------------------------


async def test_nothing_acked_is_lost_when_the_server_is_killed(server: Postgres) -> None:
    name = fresh_database(server)
    async with opened(server.url(name)) as a, opened(server.url(name)) as b, sending(a, b) as people:
        for _ in range(3):
            await people.more(100)
            server.kill()
            server.launch()
            await people.more(10)
        await people.end()
        await people.check(a)


async def test_a_frozen_server_is_told_in_time_and_needs_no_restart_of_ours(server: Postgres) -> None:
    async with opened(server.url(fresh_database(server), timeout_s=2)) as store, sending(store) as people:
        await people.more(50)
        server.freeze()
        with pytest.raises(ChatError) as refused:
            async with asyncio.timeout(8):
                await store.heads([people.logs[0].channel_id])
        server.thaw()
        assert refused.value.code is Code.STORAGE_UNAVAILABLE
        await people.more(50)
        await people.end()
        await people.check(store)


async def test_a_frozen_server_does_not_keep_us_from_closing(server: Postgres) -> None:
    async with opened(server.url(fresh_database(server))) as store:
        await asyncio.gather(*(store.heads(["local_gx"]) for _ in range(8)))
        server.freeze()
        async with asyncio.timeout(5):
            await store.aclose()
        server.thaw()


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_promoted_standby_has_everything_that_was_acked(server: Postgres, how: str) -> None:
    """The same store object goes on there: its URL names both. A primary that is frozen, or whose host is cut off,
    refuses nothing and answers nothing; when it comes back it cannot commit without its standby."""
    name = fresh_database(server)
    with standby_of(server) as standby:
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{standby.port}"
        url = server.url(name, timeout_s=2, connect_timeout_s=1).replace(f"127.0.0.1:{server.port}", hosts)
        async with opened(url) as a, opened(url) as b, sending(a, b) as people:
            await people.more(200)
            # Connections that rest while it is frozen look well when it is back.
            await asyncio.gather(*(a.heads(["local_gx"]) for _ in range(8)))
            if how == "killed":
                server.kill()
            else:
                server.freeze()
            standby.promote()
            await people.more(20)
            if how == "frozen":
                server.thaw()
            await people.more(20)
            await people.end()
            await asyncio.gather(*(people.check(a) for _ in range(8)))


async def test_a_server_that_was_restarted_while_nothing_was_asked_is_not_noticed(server: Postgres) -> None:
    async with opened(server.url(fresh_database(server))) as store:
        log = ChannelLog(store)
        await log.create("u_ann", "u_bob")
        await asyncio.gather(*(store.heads([log.channel_id]) for _ in range(8)))
        server.stop()
        server.launch()
        while not await asyncio.to_thread(server.answers):
            pass
        await log.say("u_ann", "hi")
        assert (await store.heads([log.channel_id]))[log.channel_id].seq == 2


async def test_a_store_whose_server_is_away_opens_and_finds_it_later(server: Postgres) -> None:
    url = server.url(fresh_database(server))
    server.stop()
    store = await open_store(url)
    with pytest.raises(ChatError) as refused:
        await store.check()
    assert refused.value.code is Code.STORAGE_UNAVAILABLE
    server.start()
    await store.ensure_schema()
    await store.check()
    await store.aclose()


# --- outcomes ------------------------------------------------------------------------------------------------


async def test_a_backend_that_is_ended_during_an_append_acks_nothing(
    sql: SqlStore, postgres: Postgres
) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    run = one_message(log)
    async with other_session(postgres, sql) as other:
        async with other.transaction():
            await other.execute("LOCK TABLE events")
            writing = asyncio.create_task(sql.insert([run]))
            await other.execute("SELECT pg_terminate_backend($1)", await blocked(other))
            with pytest.raises(ChatError) as refused:
                await writing
        assert refused.value.code is Code.STORAGE_UNAVAILABLE
    assert await sql.find_sent([key_of(run)]) == {}
    assert await sql.insert([run]) == [InsertOutcome.STORED]


async def test_a_transaction_that_lost_its_backend_before_the_commit_is_run_again(
    sql: SqlStore, postgres: Postgres
) -> None:
    async with other_session(postgres, sql) as other:
        async with other.transaction():
            await other.execute("LOCK TABLE users")
            writing = asyncio.create_task(sql.create_user(User("u_ann", "ann", "Ann", 1), ""))
            await other.execute("SELECT pg_terminate_backend($1)", await blocked(other))
        await writing
    assert await sql.user_by_name("ann") is not None


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_what_the_standby_does_not_have_yet_is_not_acked(server: Postgres, how: str) -> None:
    """The commit is on the primary's disk, and can be read there; a failover would take it back. Neither the append
    nor the look for it afterwards says that it is stored until the standby has it."""
    name = fresh_database(server)
    with standby_of(server) as standby:
        async with opened(server.url(name, timeout_s=2)) as store:
            store.database = name  # type: ignore[attr-defined]
            log = ChannelLog(store)
            await log.create("u_ann", "u_bob")
            run = one_message(log)
            standby.freeze()
            async with other_session(server, store) as other:
                writing = asyncio.create_task(store.insert([run]))
                await other.execute(f"SELECT {how}($1)", await blocked(other, "IPC"))
                with pytest.raises(ChatError) as unknown:
                    await writing
            assert unknown.value.code is Code.STORAGE_UNAVAILABLE
            [seen] = await store.events([EventRange(log.channel_id, 1, 10)])
            assert len(seen) == 1
            with pytest.raises(ChatError):
                await store.find_sent([key_of(run)])
            standby.thaw()
            assert await store.find_sent([key_of(run)]) == {key_of(run): run.events[0]}


async def test_a_transaction_that_failed_unseen_is_never_said_to_be_stored(sql: SqlStore) -> None:
    """The server answers COMMIT of such a one with ROLLBACK, and no error."""

    def swallows(conn: Connection) -> None:
        with suppress(IntegrityError):
            for _ in range(2):
                _new_channel.run(conn, {"channel_id": "local_gx"})

    with pytest.raises(RuntimeError):
        await sql._db.write(swallows)
    assert await sql.channel("local_gx") is None


_new_channel = Write(
    "INSERT INTO channels (channel_id, kind, name, created_at) VALUES (:channel_id, 'group', '', 1)"
)


# --- others --------------------------------------------------------------------------------------------------


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


async def test_who_decides_by_what_was_read_is_alone_with_it(sql: SqlStore) -> None:
    """Two hundred at once, from a pool of eight: each sees what the one before it wrote, and none has to be undone
    because of somebody else's."""
    people = [f"u_{number}" for number in range(40)]
    await asyncio.gather(*(sql.create_user(User(u, u, u, 1), "") for u in people))
    await asyncio.gather(*(sql.put_settings(u, {"n": n}, None) for u in people[:5] for n in range(10)))
    assert [(await sql.settings(u)).version for u in people[:5]] == [10] * 5
    won = await asyncio.gather(*(sql.put_settings("u_0", {"n": n}, 10) for n in range(10)))
    assert len([result for result in won if result is not None]) == 1

    asked = await asyncio.gather(
        *(
            sql.friend_action(a, b, FriendAction.REQUEST, 5)
            for n, a in enumerate(people)
            for b in (people[n - 1], people[(n + 1) % len(people)])
        )
    )
    assert sorted(asked) == [FriendState.FRIENDS] * 40 + [FriendState.REQUESTED] * 40
    await sql.add_device(Device("d_1", "u_0", "phone", 1, 1, None))
    await sql.put_refresh("old", "u_0", "d_1", 1000)
    rotated = await asyncio.gather(*(sql.rotate_refresh("old", f"new{n}", 5, 1000) for n in range(10)))
    assert [result.outcome for result in rotated].count(RefreshOutcome.ROTATED) == 1

    named = [User(f"u_named{n}", "same", "same", 1) for n in range(12)]
    made = await asyncio.gather(
        *(sql.user_of_subject("issuer", str(n // 2), user) for n, user in enumerate(named))
    )
    assert sorted(user.username for user in made) == sorted(2 * ["same", *(f"same-{n}" for n in range(2, 7))])


# --- connections ---------------------------------------------------------------------------------------------


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
