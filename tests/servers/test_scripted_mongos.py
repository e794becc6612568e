"""The scripted mongos says that it is one, and answers sharding commands as documented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bson import MaxKey, MinKey
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure
from support.mongo import faults
from support.mongo.client import connected
from support.mongo.errors import ErrorCode
from support.mongo.scripted import ScriptedServer
from support.mongo.topology import mongos

from chatkernel.storage.mongo.store import open_mongo
from chatkernel.storage.schema_step import Placement, StepKind

Client = AsyncMongoClient[dict[str, Any]]

EVENTS = "chat.events"


@pytest.fixture
async def router() -> AsyncIterator[ScriptedServer]:
    async with mongos() as started:
        yield started


@pytest.fixture
async def client(router: ScriptedServer) -> AsyncIterator[Client]:
    async with connected(f"mongodb://{router.host}/") as opened:
        yield opened


async def shard_events(client: Client) -> None:
    await client.admin.command("enableSharding", "chat")
    await client.admin.command("shardCollection", EVENTS, key={"channel_id": 1})


async def refusal(client: Client, name: str, value: Any, **fields: Any) -> int | None:
    with pytest.raises(OperationFailure) as refused:
        await client.admin.command(name, value, **fields)
    return refused.value.code


async def test_it_is_known_as_a_mongos_and_its_writes_are_retried(
    router: ScriptedServer, client: Client
) -> None:
    hello = await client.admin.command("hello")
    assert hello["msg"] == "isdbgrid"
    assert await client.is_mongos
    router.on("insert", faults.reset_after(), times=1)
    await client.chat.events.insert_one({"_id": 1})
    assert len(router.seen("insert")) == 2
    assert len(router.store.documents(EVENTS)) == 1


async def test_a_sharded_collection_is_in_the_catalogue_and_has_its_index(client: Client) -> None:
    await shard_events(client)
    (described,) = await client.config.collections.find({"_id": EVENTS}).to_list()
    assert (described["key"], described["unique"]) == ({"channel_id": 1}, False)
    (chunk,) = await client.config.chunks.find({"uuid": described["uuid"]}).to_list()
    assert (chunk["min"], chunk["max"]) == ({"channel_id": MinKey()}, {"channel_id": MaxKey()})
    assert "channel_id_1" in await client.chat.events.index_information()


async def test_sharding_again_is_no_error_and_by_another_key_is_one(client: Client) -> None:
    for _ in range(2):
        await shard_events(client)
    code = await refusal(client, "shardCollection", EVENTS, key={"seq": 1})
    assert code == ErrorCode.ALREADY_INITIALIZED


async def test_a_collection_with_documents_needs_an_index_first(client: Client) -> None:
    await client.chat.events.insert_one({"channel_id": "a"})
    code = await refusal(client, "shardCollection", EVENTS, key={"channel_id": 1})
    assert code == ErrorCode.INVALID_OPTIONS
    await client.chat.events.create_index([("channel_id", 1), ("seq", 1)], unique=True)
    await client.admin.command("shardCollection", EVENTS, key={"channel_id": 1})


async def test_unique_indexes_begin_with_the_shard_key(client: Client) -> None:
    await shard_events(client)
    await client.chat.events.create_index([("channel_id", 1), ("seq", 1)], unique=True)
    with pytest.raises(OperationFailure) as refused:
        await client.chat.events.create_index([("sender_id", 1)], unique=True)
    assert refused.value.code == ErrorCode.CANNOT_CREATE_INDEX
    await client.chat.users.create_index("email", unique=True)
    code = await refusal(client, "shardCollection", "chat.users", key={"user_id": 1})
    assert code == ErrorCode.INVALID_OPTIONS


async def test_chunks_are_split_and_moved(client: Client) -> None:
    await shard_events(client)
    await client.admin.command("split", EVENTS, middle={"channel_id": "eu_8"})
    await client.admin.command("split", EVENTS, middle={"channel_id": "eu_"})
    await client.admin.command("moveChunk", EVENTS, find={"channel_id": "eu_5"}, to="shard02")
    chunks = await client.config.chunks.find({}).sort("min.channel_id").to_list()
    assert [each["min"]["channel_id"] for each in chunks] == [MinKey(), "eu_", "eu_8"]
    assert [each["shard"] for each in chunks] == ["shard01", "shard02", "shard01"]
    code = await refusal(client, "moveChunk", EVENTS, find={"channel_id": "x"}, to="shard09")
    assert code == ErrorCode.SHARD_NOT_FOUND


async def test_a_split_where_there_is_one_is_refused_without_a_code(client: Client) -> None:
    await shard_events(client)
    await client.admin.command("split", EVENTS, middle={"channel_id": "eu_"})
    with pytest.raises(OperationFailure, match="is a boundary key of existing chunk") as refused:
        await client.admin.command("split", EVENTS, middle={"channel_id": "eu_"})
    assert refused.value.code is None
    code = await refusal(client, "split", "chat.other", middle={"channel_id": "eu_"})
    assert code == ErrorCode.NAMESPACE_NOT_SHARDED


async def test_zones_have_shards_and_ranges_that_do_not_overlap(client: Client) -> None:
    await shard_events(client)
    low, high = {"channel_id": "eu_"}, {"channel_id": "eu`"}
    code = await refusal(client, "updateZoneKeyRange", EVENTS, min=low, max=high, zone="eu")
    assert code == ErrorCode.ZONE_NOT_FOUND
    for _ in range(2):
        await client.admin.command("addShardToZone", "shard01", zone="eu")
        await client.admin.command("updateZoneKeyRange", EVENTS, min=low, max=high, zone="eu")
    shards = (await client.admin.command("listShards"))["shards"]
    assert {each["_id"]: each["tags"] for each in shards} == {"shard01": ["eu"], "shard02": []}
    (zone,) = await client.config.tags.find({"ns": EVENTS}).to_list()
    assert (zone["min"], zone["max"], zone["tag"]) == (low, high, "eu")
    middle = {"channel_id": "eu_5"}
    code = await refusal(client, "updateZoneKeyRange", EVENTS, min=middle, max=high, zone="eu")
    assert code == ErrorCode.RANGE_OVERLAP_CONFLICT
    await client.admin.command("updateZoneKeyRange", EVENTS, min=low, max=high, zone=None)
    assert await client.config.tags.find({}).to_list() == []


async def test_commands_that_do_not_name_the_shard_key_are_noted(
    router: ScriptedServer, client: Client
) -> None:
    await shard_events(client)
    await client.chat.events.insert_one({"channel_id": "eu_a", "seq": 1})
    await client.chat.events.find_one({"channel_id": "eu_a", "seq": {"$gt": 0}})
    await client.chat.events.update_one({"channel_id": {"$in": ["eu_a"]}}, {"$set": {"x": 1}})
    assert not router.broadcasts
    await client.chat.events.count_documents({"seq": 1})
    assert [next(iter(each)) for each in router.broadcasts] == ["aggregate"]


@pytest.mark.slow
async def test_several_bring_a_store_to_its_schema_at_once(router: ScriptedServer) -> None:
    placement = Placement({"eu": ("shard01",)})
    stores = [await open_mongo(f"mongodb://{router.host}/chat") for _ in range(2)]
    try:
        await asyncio.gather(*(store.ensure_schema(placement) for store in stores))
        assert await stores[0].plan_schema(placement) == []
    finally:
        for store in stores:
            await store.aclose()


@pytest.mark.slow
async def test_a_region_that_comes_later_is_split_and_kept_too_and_its_channels_stay(
    router: ScriptedServer, client: Client
) -> None:
    store = await open_mongo(f"mongodb://{router.host}/chat")
    try:
        await store.ensure_schema(Placement({"eu": ("shard01",)}))
        await client.chat.events.insert_one({"channel_id": "us_g77", "seq": 1})
        later = Placement({"eu": ("shard01",), "us": ("shard02",)})
        done = [step.does for step in await store.ensure_schema(later)]
        assert "keep events of region us in its zone" in done and "add shard shard02 to zone us" in done
        assert await store.plan_schema(later) == []
        moved = [
            each["moveChunk"]
            for each in router.seen("moveChunk")
            if str(next(iter(each["find"].values()))).startswith("us_")
        ]
        assert EVENTS not in moved and "chat.reactions" in moved
    finally:
        await store.aclose()


async def test_a_collection_that_is_sharded_otherwise_is_left_to_a_person(
    router: ScriptedServer, client: Client
) -> None:
    await client.admin.command("enableSharding", "chat")
    await client.admin.command("shardCollection", EVENTS, key={"seq": 1})
    store = await open_mongo(f"mongodb://{router.host}/chat")
    try:
        wrong = [step for step in await store.plan_schema() if step.kind is StepKind.BY_HAND]
        assert [step.does for step in wrong] == [
            "events is sharded by seq, not by channel_id: reshardCollection is for a person to decide"
        ]
    finally:
        await store.aclose()
