"""What a PostgreSQL server can do to us while people send: killed, frozen, failed over, a backend ended.

What was acked is there, and all that is told is retryable.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from channel_log import ChannelLog
from senders import sending
from sessions import blocked, key_of, one_message, opened, other_session
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from support.postgres import Postgres, fresh_database, standby_of

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import (
    EventRange,
    InsertOutcome,
    User,
)
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore
from chatkernel.storage.sql.statements import Write

pytestmark = pytest.mark.stores

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
    nor the look for it afterwards says that it is stored until the standby has it, and no log shows it."""
    name = fresh_database(server)
    with standby_of(server) as standby:
        async with opened(server.url(name, timeout_s=2)) as store:
            store.database = name  # type: ignore[attr-defined]
            log = ChannelLog(store)
            await log.create("u_ann", "u_bob")
            assert (await store.heads([log.channel_id]))[log.channel_id].seq == 1
            run = one_message(log)
            standby.freeze()
            async with other_session(server, store) as other:
                writing = asyncio.create_task(store.insert([run]))
                await other.execute(f"SELECT {how}($1)", await blocked(other, "IPC"))
                with pytest.raises(ChatError) as unknown:
                    await writing
            assert unknown.value.code is Code.STORAGE_UNAVAILABLE
            assert server.sql("SELECT count(*) FROM events", name) == "2"
            for asked in (
                store.events([EventRange(log.channel_id, 1, 10)]),
                store.heads([log.channel_id]),
                store.find_sent([key_of(run)]),
            ):
                with pytest.raises(ChatError):
                    await asked
            standby.thaw()
            async with asyncio.timeout(20):
                while True:
                    with suppress(ChatError):
                        await store.heads([log.channel_id])
                        break
            [seen] = await store.events([EventRange(log.channel_id, 1, 10)])
            assert len(seen) == 1
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
