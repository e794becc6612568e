"""PostgreSQL builds what its schema lacks while others write, and takes away what its builds left behind."""

from __future__ import annotations

import asyncio

import pytest
from channel_log import ChannelLog
from support.postgres import Postgres

from chatkernel.errors import ChatError
from chatkernel.storage.open import open_store
from chatkernel.storage.sql import SqlStore

pytestmark = pytest.mark.stores


def database(sql: SqlStore) -> str:
    name: str = sql.database  # type: ignore[attr-defined]
    return name


async def does(sql: SqlStore) -> list[str]:
    return [step.does for step in await sql.plan_schema()]


async def test_a_store_as_it_should_be_lacks_nothing(sql: SqlStore) -> None:
    assert await sql.plan_schema() == []
    assert await sql.ensure_schema(allow_destructive=True) == []


async def test_what_was_changed_by_hand_is_mended_and_what_is_strange_is_kept(
    sql: SqlStore, postgres: Postgres
) -> None:
    for statement in (
        "DROP INDEX memberships_of_user",
        "DROP INDEX events_listed",
        "CREATE INDEX events_listed ON events (message_id)",
        "CREATE INDEX somebody_made_this ON users (about)",
    ):
        postgres.sql(statement, database(sql))
    done = [step.does for step in await sql.ensure_schema()]
    assert done == [
        "create unique index events_listed_2 on events (channel_id, message_id)",
        "create index memberships_of_user on memberships (user_id, archived, channel_id)",
    ]
    assert await does(sql) == [
        "drop index events_listed of events: it is not of this schema",
        "drop index somebody_made_this of users: it is not of this schema",
    ]
    await sql.ensure_schema(allow_destructive=True)
    assert await sql.plan_schema() == []


async def test_an_index_is_built_while_others_write_and_by_several_at_once(
    sql: SqlStore, postgres: Postgres
) -> None:
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    postgres.sql("DROP INDEX events_listed", database(sql))
    others = [await open_store(postgres.url(database(sql), timeout_s=2)) for _ in range(2)]
    try:
        built = asyncio.gather(*(each.ensure_schema() for each in others))
        while not built.done():
            await log.say("u_ann", "hi")
        await built
        assert sum(len(each) for each in built.result()) == 1
        assert await sql.plan_schema() == []
    finally:
        for each in others:
            await each.aclose()


async def test_a_unique_index_that_cannot_be_built_is_told_and_its_rest_taken_away(
    sql: SqlStore, postgres: Postgres
) -> None:
    name = database(sql)
    postgres.sql("ALTER TABLE users DROP CONSTRAINT users_username_key_key", name)
    assert await does(sql) == ["table users does not keep username_key unique: restore a backup"]
    postgres.sql("ALTER TABLE users ADD CONSTRAINT users_username_key_key UNIQUE (username_key)", name)
    log = ChannelLog(sql)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "hi")
    postgres.sql("DROP INDEX events_listed", name)
    postgres.sql("UPDATE events SET message_id = 7", name)
    with pytest.raises(ChatError, match="cannot be made: some rows have the same channel_id, message_id"):
        await sql.ensure_schema()
    postgres.sql("UPDATE events SET message_id = 7 + seq", name)
    await sql.ensure_schema(allow_destructive=True)
    assert await sql.plan_schema() == []


async def test_a_trigger_that_is_gone_is_left_to_a_person(sql: SqlStore, postgres: Postgres) -> None:
    postgres.sql("DROP TRIGGER events_move_head ON events", database(sql))
    assert await does(sql) == ["trigger events_move_head is gone: restore a backup"]
    assert await sql.ensure_schema(allow_destructive=True) == []
