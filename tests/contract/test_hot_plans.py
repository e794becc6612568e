"""What people wait for is found by an index, as the adapter really asks for it, and is not sorted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pymongo import MongoClient
from support.postgres import Postgres, drop_database, fresh_database

from bench.storage import mongo as mongo_data
from bench.storage import postgres as postgres_data
from bench.storage import sqlite as sqlite_data
from bench.storage.explain import explained, faults
from bench.storage.shape import Shape
from bench.storage.sqlplans import AUTO_EXPLAIN, INDEX_OR_NOTHING, ONE_PLAN_FOR_ALL, Explained

SHAPE, EVENTS = Shape(channels=40, users=60), 2_000


@pytest.fixture
async def sqlite_path(tmp_path: Path) -> Path:
    path = tmp_path / "chat.db"
    await sqlite_data.load(path, SHAPE, EVENTS)
    return path


@pytest.fixture(scope="module")
def made(postgres: Postgres) -> Iterator[str]:
    """A database with the data set in it, to be copied."""
    import asyncio

    name = fresh_database(postgres)
    asyncio.run(postgres_data.load(postgres.url(name), SHAPE, EVENTS))
    postgres.sql("ANALYZE", name)
    yield name
    drop_database(postgres, name)


@pytest.fixture
def database(postgres: Postgres, made: str) -> Iterator[str]:
    name = fresh_database(postgres, made)
    for setting in (*AUTO_EXPLAIN, *INDEX_OR_NOTHING):
        postgres.sql(f"ALTER DATABASE {name} SET {setting}")
    yield name
    drop_database(postgres, name)


async def test_sqlite_looks_up_by_index(sqlite_path: Path) -> None:
    found = await explained(f"sqlite:///{sqlite_path}", SHAPE, times=1)
    assert all(found.values()), "a call that sent nothing was not looked at"
    assert not faults(found)


@pytest.mark.parametrize("more", [[], [ONE_PLAN_FOR_ALL]], ids=["own", "generic"])
async def test_postgres_looks_up_by_index(postgres: Postgres, database: str, more: list[str]) -> None:
    for setting in more:
        postgres.sql(f"ALTER DATABASE {database} SET {setting}")
    found = await explained(postgres.url(database), SHAPE)
    assert all(found.values()), "a call that sent nothing was not looked at"
    assert not faults(found)


async def test_a_lost_index_of_sqlite_is_found(sqlite_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_path)) as raw:
        raw.execute("DROP INDEX events_listed")
    found = await explained(f"sqlite:///{sqlite_path}", SHAPE, times=1)
    assert wrong(found) == {"newest_page", "around"}


@pytest.mark.stores
@pytest.mark.parametrize(
    ("lost", "calls"),
    [
        ("DROP INDEX events_listed", {"newest_page", "around"}),
        ("ALTER TABLE events DROP CONSTRAINT events_sent", {"resend"}),
        (
            "ALTER TABLE events DROP CONSTRAINT events_pkey",
            {"newest_page", "sync", "sync_many", "around"},
        ),
        ("ALTER TABLE reactions DROP CONSTRAINT reactions_pkey", {"newest_page", "around"}),
    ],
)
async def test_a_lost_index_of_postgres_is_found(
    postgres: Postgres, database: str, lost: str, calls: set[str]
) -> None:
    postgres.sql(lost, database)
    found = await explained(postgres.url(database), SHAPE)
    assert calls <= wrong(found)


@pytest.mark.stores
async def test_mongo_looks_up_by_declared_indexes_and_a_lost_one_is_found(mongo_url: str) -> None:
    """On a server that explains its plans, by these."""
    await mongo_data.load(mongo_url, SHAPE, len(SHAPE.channels) + 100)
    found = await explained(mongo_url, SHAPE, times=1)
    assert all(found.values()), "a call that sent nothing was not looked at"
    assert not faults(found)
    with MongoClient[dict[str, object]](mongo_url) as client:
        client.get_default_database().events.drop_index("channel_id_listed_message_id")
    assert wrong(await explained(mongo_url, SHAPE, times=1)) == {"newest_page", "around"}


def wrong(found: dict[str, list[Explained]]) -> set[str]:
    return {fault.partition(":")[0] for fault in faults(found)}
