"""mongo-java-server does what an adapter's writes lean on: races, refusals, their order; and it can be broken."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pymongo
import pytest
from pymongo import ASCENDING, AsyncMongoClient, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, PyMongoError
from support.mongo.client import connected
from support.mongo.java_build import jar_path
from support.mongo.java_server import JavaMongo, java_server

WRITERS = 16
RACES = 20
LOST = frozenset({11000, 112})
"""A loser's codes: a duplicate key, and on some servers a write conflict."""

CHANNEL_SEQ = IndexModel([("channel_id", ASCENDING), ("seq", ASCENDING)], name="channel_seq", unique=True)

Database = AsyncDatabase[dict[str, Any]]


@pytest.fixture
async def database(java_mongo_url: str) -> AsyncIterator[Database]:
    async with connected(java_mongo_url, maxPoolSize=WRITERS) as client:
        yield client.get_default_database()


@pytest.fixture
def own_server(java_mongo: JavaMongo) -> Iterator[JavaMongo]:
    """One to be broken. It needs what the shared one needs."""
    with java_server() as server:
        yield server


def event(seq: int, writer: int = 0) -> dict[str, Any]:
    return {"channel_id": "eu_a", "seq": seq, "writer": writer}


async def test_it_is_recent_enough_for_the_driver(database: Database) -> None:
    hello = await database.client.admin.command("ismaster")
    assert hello["maxWireVersion"] == 21
    assert (await database.client.server_info())["version"] == "7.0.0"


async def test_of_sixteen_writers_of_one_unique_key_one_wins(database: Database) -> None:
    await database.events.create_indexes([CHANNEL_SEQ])

    async def won(seq: int, writer: int) -> bool:
        try:
            await database.events.insert_one(event(seq, writer))
        except OperationFailure as lost:
            assert lost.code in LOST
            return False
        return True

    for seq in range(1, RACES + 1):
        outcomes = await asyncio.gather(*(won(seq, writer) for writer in range(WRITERS)))
        assert sum(outcomes) == 1
        stored = await database.events.find_one({"channel_id": "eu_a", "seq": seq})
        assert stored is not None
        assert stored["writer"] == outcomes.index(True)
    assert await database.events.count_documents({}) == RACES


async def test_an_ordered_insert_stops_at_the_first_refusal(database: Database) -> None:
    await database.events.create_indexes([CHANNEL_SEQ])
    await database.events.insert_one(event(3))
    with pytest.raises(BulkWriteError) as refused:
        await database.events.insert_many([event(seq) for seq in (1, 2, 3, 4)])
    (error,) = refused.value.details["writeErrors"]
    assert error["index"] == 2
    assert error["code"] in LOST
    # `nInserted` is not to be leaned on: this server counts wrongly. What is stored is.
    found = await database.events.find({}).sort("seq").to_list()
    assert [each["seq"] for each in found] == [1, 2, 3]


async def test_compare_and_set_has_one_winner(database: Database) -> None:
    await database.jobs.insert_one({"_id": "job", "version": 0})

    async def taken(version: int) -> bool:
        result = await database.jobs.update_one({"_id": "job", "version": version}, {"$inc": {"version": 1}})
        return result.modified_count == 1

    for version in range(RACES):
        assert sum(await asyncio.gather(*(taken(version) for _ in range(WRITERS)))) == 1
    assert await database.jobs.find_one({}) == {"_id": "job", "version": RACES}


async def test_no_increment_is_lost(database: Database) -> None:
    increments = (
        database.counters.update_one({"_id": "a"}, {"$inc": {"n": 1}}, upsert=True)
        for _ in range(WRITERS * 4)
    )
    await database.counters.insert_one({"_id": "a", "n": 0})
    await asyncio.gather(*increments)
    assert await database.counters.find_one({}) == {"_id": "a", "n": WRITERS * 4}


async def test_a_watermark_only_rises(database: Database) -> None:
    key = {"channel_id": "eu_a", "user_id": "u"}
    for read in (5, 9, 7):
        await database.watermarks.update_one(key, {"$max": {"read": read}}, upsert=True)
    stored = await database.watermarks.find_one(key)
    assert stored is not None
    assert stored["read"] == 9


async def test_tests_do_not_see_each_other(java_mongo_url: str, database: Database) -> None:
    await database.events.insert_one(event(1))
    other = AsyncMongoClient[dict[str, Any]](java_mongo_url.rpartition("/")[0] + "/another")
    assert await other.get_default_database().events.find_one({}) is None
    await other.close()


async def test_frozen_it_answers_nobody_and_thawed_it_goes_on(own_server: JavaMongo) -> None:
    async with connected(own_server.url) as client:
        await client.chat.events.insert_one(event(1))
        own_server.freeze()
        with pytest.raises(PyMongoError) as late, pymongo.timeout(0.4):
            await client.chat.events.find_one({})
        assert late.value.timeout
        own_server.thaw()
    async with connected(own_server.url) as client:
        assert await client.chat.events.count_documents({}) == 1


async def test_killed_it_comes_back_empty_on_the_same_port(own_server: JavaMongo) -> None:
    async with connected(own_server.url) as client:
        await client.chat.events.insert_one(event(1))
        own_server.kill()
        with pytest.raises(AutoReconnect), pymongo.timeout(0.5):
            await client.chat.events.find_one({})
    own_server.start()
    async with connected(own_server.url) as client:
        assert await client.chat.events.count_documents({}) == 0


def test_it_does_not_outlive_who_started_it(java_mongo: JavaMongo) -> None:
    script = (
        "import os, signal\n"
        "from support.mongo.java_server import JavaMongo\n"
        "from support.mongo.java_build import built_jar\n"
        "server = JavaMongo(built_jar())\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": "tests"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=30,
    )
    pid = int(ran.stdout)
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return


def test_its_jar_is_kept_outside_of_the_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert jar_path().is_relative_to(tmp_path / "chatcluster")
