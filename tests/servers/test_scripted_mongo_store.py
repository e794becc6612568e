"""The scripted server stores, finds, updates and refuses as MongoDB does, as far as an adapter leans on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import Int64
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel, InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, WriteError
from support.mongo.client import connected
from support.mongo.errors import ErrorCode
from support.mongo.scripted import ScriptedServer, scripted_server

Client = AsyncMongoClient[dict[str, Any]]

CHANNEL_SEQ = IndexModel([("channel_id", ASCENDING), ("seq", ASCENDING)], name="channel_seq", unique=True)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as started:
        yield started


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with connected(server.url) as opened:
        yield opened


def events(channel_id: str, *seqs: int) -> list[dict[str, Any]]:
    return [{"channel_id": channel_id, "seq": seq} for seq in seqs]


async def test_an_ordered_insert_stops_at_the_first_refusal(client: Client) -> None:
    await client.chat.events.create_indexes([CHANNEL_SEQ])
    await client.chat.events.insert_one(events("a", 3)[0])
    with pytest.raises(BulkWriteError) as refused:
        await client.chat.events.insert_many(events("a", 1, 2, 3, 4))
    details = refused.value.details
    assert details["nInserted"] == 2
    (error,) = details["writeErrors"]
    assert (error["index"], error["code"]) == (2, ErrorCode.DUPLICATE_KEY)
    assert error["keyValue"] == {"channel_id": "a", "seq": 3}
    assert error["keyPattern"] == {"channel_id": 1, "seq": 1}
    found = await client.chat.events.find({"channel_id": "a"}).sort("seq").to_list()
    assert [each["seq"] for each in found] == [1, 2, 3]


async def test_an_unordered_insert_goes_on(client: Client) -> None:
    await client.chat.events.create_indexes([CHANNEL_SEQ])
    await client.chat.events.insert_one(events("a", 2)[0])
    with pytest.raises(BulkWriteError) as refused:
        await client.chat.events.insert_many(events("a", 1, 2, 3), ordered=False)
    assert refused.value.details["nInserted"] == 2


async def test_pages_are_found_by_range_order_and_limit(client: Client) -> None:
    await client.chat.events.insert_many([*events("a", *range(1, 301)), *events("b", 1)])
    page = {"channel_id": "a", "seq": {"$gt": 10, "$lte": 290}}
    newest = (
        await client.chat.events.find(page, {"_id": 0, "seq": 1}).sort("seq", DESCENDING).limit(3).to_list()
    )
    assert newest == [{"seq": 290}, {"seq": 289}, {"seq": 288}]
    everything = await client.chat.events.find(page).sort("seq").to_list()
    assert [each["seq"] for each in everything] == list(range(11, 291))
    assert await client.chat.events.count_documents(page) == 280
    assert await client.chat.events.distinct("channel_id") == ["a", "b"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"n": {"$in": [1, 3]}}, [1, 3]),
        ({"$or": [{"n": 1}, {"tags": "y"}]}, [1, 2]),
        ({"tags": {"$all": ["x", "y"]}}, [2]),
        ({"gone": None}, [1, 2, 3]),
        ({"tags": {"$exists": False}}, [3]),
        ({"n": {"$gt": "0"}}, []),
        ({"in.side": {"$ne": 5}}, [1, 2]),
        ({"n": {"$not": {"$gte": 2}}}, [1]),
        ({"name": {"$regex": "^an"}}, [1]),
    ],
)
async def test_filters(client: Client, filters: dict[str, Any], found: list[int]) -> None:
    documents: list[dict[str, Any]] = [
        {"n": 1, "tags": ["x"], "name": "ann"},
        {"n": 2, "tags": ["x", "y"], "name": "dan"},
        {"n": 3, "in": {"side": 5}},
    ]
    await client.chat.things.insert_many(documents)
    assert [each["n"] for each in await client.chat.things.find(filters).to_list()] == found


async def test_updates_and_upserts(client: Client) -> None:
    marks = client.chat.watermarks
    key = {"channel_id": "a", "user_id": "u"}
    first = await marks.update_one(
        key, {"$max": {"read": Int64(7)}, "$setOnInsert": {"made": 1}}, upsert=True
    )
    assert (first.matched_count, first.upserted_id is not None) == (0, True)
    for read in (5, 9):
        await marks.update_one(key, {"$max": {"read": read}, "$min": {"least": read}, "$inc": {"times": 1}})
    again = await marks.update_one(key, {"$max": {"read": 9}, "$setOnInsert": {"made": 2}}, upsert=True)
    assert (again.matched_count, again.modified_count, again.upserted_id) == (1, 0, None)
    stored = await marks.find_one(key, {"_id": 0})
    assert stored == {**key, "read": 9, "made": 1, "least": 5, "times": 2}


async def test_a_wide_number_stays_wide(client: Client) -> None:
    await client.chat.counters.insert_one({"_id": "a", "n": Int64(1)})
    await client.chat.counters.update_one({"_id": "a"}, {"$inc": {"n": 1}})
    found = await client.chat.counters.find_one({"_id": "a"})
    assert found is not None
    assert (found["n"], type(found["n"])) == (2, Int64)


async def test_a_bulk_write_says_what_it_did(client: Client) -> None:
    await client.chat.marks.insert_one({"_id": 1, "n": 1})
    result = await client.chat.marks.bulk_write(
        [
            UpdateOne({"_id": 1}, {"$set": {"n": 2}}),
            UpdateOne({"_id": 2}, {"$set": {"n": 2}}, upsert=True),
            InsertOne({"_id": 3}),
        ]
    )
    assert (result.matched_count, result.modified_count, result.inserted_count) == (1, 1, 1)
    assert result.upserted_ids == {1: 2}


async def test_compare_and_set_by_update(client: Client) -> None:
    await client.chat.jobs.insert_one({"_id": "job", "owner": None})
    won = await client.chat.jobs.update_one({"_id": "job", "owner": None}, {"$set": {"owner": "w1"}})
    lost = await client.chat.jobs.update_one({"_id": "job", "owner": None}, {"$set": {"owner": "w2"}})
    assert (won.modified_count, lost.matched_count) == (1, 0)


async def test_an_update_that_breaks_uniqueness_changes_nothing(client: Client) -> None:
    await client.chat.events.create_indexes([CHANNEL_SEQ])
    await client.chat.events.insert_many(events("a", 1, 2))
    with pytest.raises(DuplicateKeyError):
        await client.chat.events.update_one({"seq": 2}, {"$set": {"seq": 1}})
    await client.chat.events.insert_one(events("a", 3)[0])
    with pytest.raises(DuplicateKeyError):
        await client.chat.events.insert_one(events("a", 2)[0])


async def test_a_missing_unique_field_counts_as_null(client: Client) -> None:
    await client.chat.users.create_index("email", unique=True)
    await client.chat.users.insert_one({"name": "a"})
    with pytest.raises(DuplicateKeyError):
        await client.chat.users.insert_one({"name": "b", "email": None})


async def test_an_id_cannot_be_changed_and_paths_cannot_meet(client: Client) -> None:
    await client.chat.users.insert_one({"_id": 1, "n": 1})
    with pytest.raises(WriteError) as refused:
        await client.chat.users.update_one({"n": 1}, {"$set": {"_id": 2}})
    assert refused.value.code == ErrorCode.IMMUTABLE_FIELD
    with pytest.raises(WriteError) as refused:
        await client.chat.users.update_one({"n": 1}, {"$set": {"a": 2}, "$inc": {"a": 1}})
    assert refused.value.code == ErrorCode.CONFLICTING_UPDATE_OPERATORS


async def test_deletes_and_find_and_modify(client: Client) -> None:
    await client.chat.events.insert_many(events("a", 1, 2, 3))
    changed = await client.chat.events.find_one_and_update(
        {"channel_id": "a"}, {"$set": {"x": 1}}, sort=[("seq", -1)], return_document=ReturnDocument.AFTER
    )
    assert changed is not None
    assert (changed["seq"], changed["x"]) == (3, 1)
    removed = await client.chat.events.find_one_and_delete({"x": 1})
    assert removed is not None
    assert (await client.chat.events.delete_one({"channel_id": "a"})).deleted_count == 1
    assert (await client.chat.events.delete_many({})).deleted_count == 1


async def test_indexes_are_made_once_listed_and_dropped(client: Client) -> None:
    collection = client.chat.events
    assert await (await collection.list_indexes()).to_list() == []
    for _ in range(2):
        assert await collection.create_indexes([CHANNEL_SEQ]) == ["channel_seq"]
    listed = {index["name"]: index for index in await (await collection.list_indexes()).to_list()}
    assert set(listed) == {"_id_", "channel_seq"}
    assert listed["channel_seq"]["unique"] is True
    await collection.drop_index("channel_seq")
    with pytest.raises(OperationFailure) as missing:
        await collection.drop_index("channel_seq")
    assert missing.value.code == ErrorCode.INDEX_NOT_FOUND


@pytest.mark.parametrize(
    ("name", "keys", "unique", "code"),
    [
        ("channel_seq", [("channel_id", 1)], True, ErrorCode.INDEX_KEY_SPECS_CONFLICT),
        ("channel_seq", [("channel_id", 1), ("seq", 1)], False, ErrorCode.INDEX_KEY_SPECS_CONFLICT),
        ("other", [("channel_id", 1), ("seq", 1)], True, ErrorCode.INDEX_OPTIONS_CONFLICT),
    ],
)
async def test_an_index_that_conflicts_is_refused(
    client: Client, name: str, keys: list[tuple[str, int]], unique: bool, code: ErrorCode
) -> None:
    await client.chat.events.create_indexes([CHANNEL_SEQ])
    with pytest.raises(OperationFailure) as refused:
        await client.chat.events.create_index(keys, name=name, unique=unique)
    assert refused.value.code == code


async def test_a_unique_index_over_duplicates_is_refused(client: Client) -> None:
    await client.chat.events.insert_many(events("a", 1, 1))
    with pytest.raises(DuplicateKeyError):
        await client.chat.events.create_indexes([CHANNEL_SEQ])
    assert "channel_seq" not in await client.chat.events.index_information()


async def test_collections_are_listed_and_dropped(client: Client) -> None:
    await client.chat.create_collection("a")
    await client.chat.b.insert_one({})
    assert await client.chat.list_collection_names() == ["a", "b"]
    await client.chat.drop_collection("a")
    await client.drop_database("chat")
    assert await client.list_database_names() == []


async def test_compressed_messages(server: ScriptedServer) -> None:
    async with connected(server.url, compressors="zlib") as client:
        await client.chat.events.insert_many(events("a", *range(1, 200)))
        assert len(await client.chat.events.find().to_list()) == 199


async def test_unacknowledged_writes_are_not_answered(server: ScriptedServer) -> None:
    async with connected(server.url, w=0, maxPoolSize=1) as client:
        await client.chat.events.insert_one({"_id": 1})
        assert await client.chat.events.find_one({"_id": 1}) == {"_id": 1}


async def test_an_index_finds_what_a_scan_finds(client: Client) -> None:
    things = client.chat.things
    values: list[Any] = [1, 1.0, Int64(2), "a", ["a", "b"], [], None, {"x": 1}]
    await things.insert_many([{"_id": number, "at": value} for number, value in enumerate(values)])
    await things.insert_one({"_id": 99})
    filters: list[dict[str, Any]] = [
        *({"at": value} for value in values),
        {"at": {"$in": [1, "b", None]}},
        {"at": {"$gt": 1}},
        {"at": "a", "_id": {"$in": [3, 4, 5]}},
        {"$or": [{"at": "a"}, {"_id": 0}]},
    ]

    async def found() -> list[list[int]]:
        return [sorted([each["_id"] async for each in things.find(one)]) for one in filters]

    scanned = await found()
    await things.create_index("at")
    assert await found() == scanned
    await things.update_one({"_id": 0}, {"$set": {"at": "b"}})
    await things.delete_one({"at": "a"})
    await things.insert_one({"_id": 100, "at": "a"})
    looked_up = await found()
    await things.drop_index("at_1")
    assert await found() == looked_up != scanned
