"""Making the schema when something is in the way, or fails in the middle."""

from __future__ import annotations

import pytest
from mongo_pods import pods
from support.mongo import faults
from support.mongo.topology import mongos

from chatkernel.errors import ChatError
from chatkernel.storage.mongo.store import open_mongo
from chatkernel.storage.schema_step import Placement

DAY_MS = 86_400_000


async def test_building_an_index_takes_as_long_as_it_takes() -> None:
    async with pods() as running:
        store = await running.start()
        await store._collections.database.drop_collection("events")
        running.forget()
        await store.ensure_schema()
        made = running.deployment.primary.seen("createIndexes")
        assert made and all(each.get("maxTimeMS", DAY_MS) > DAY_MS / 2 for each in made)


async def test_nothing_is_dropped_before_what_takes_its_place_is_there() -> None:
    """Two documents have the same seq, so the unique index cannot be made: the old one stays."""
    async with pods() as running:
        store = await running.start()
        events = store._collections.events
        await events.drop_index("channel_id_seq")
        await events.create_index([("channel_id", 1), ("seq", 1)], name="channel_id_seq")
        twice = {"channel_id": "c", "seq": 1, "sender_id": "u"}
        await events.insert_many([{**twice, "client_msg_id": each} for each in "ab"])
        for destructive in (False, True):
            with pytest.raises(ChatError):
                await store.ensure_schema(allow_destructive=destructive)
            assert "channel_id_seq" in await events.index_information()


@pytest.mark.parametrize("command", ["split", "updateZoneKeyRange", "moveChunk"])
async def test_sharding_that_failed_half_way_is_finished(command: str) -> None:
    async with mongos() as router:
        store = await open_mongo(router.url)
        placement = Placement({"eu": ["shard01"], "us": ["shard02"]})
        failing = router.on(command, faults.reset_before())
        with pytest.raises(ChatError):
            await store.ensure_schema(placement)
        failing.remove()
        assert any(step.kind == "adds" for step in await store.plan_schema(placement))
        await store.ensure_schema(placement)
        assert await store.plan_schema(placement) == []
        await store.aclose()
