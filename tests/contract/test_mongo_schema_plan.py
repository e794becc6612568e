"""What the schema's plan does about each thing that can be found."""

from __future__ import annotations

import pytest

from chatkernel.storage.mongo.migration import (
    AddToZone,
    CreateIndex,
    DropIndex,
    KeepNear,
    Observed,
    ObservedIndex,
    Placement,
    Shard,
    plan,
)
from chatkernel.storage.mongo.schema import COLLECTIONS
from chatkernel.storage.mongo.store import open_mongo

WHOLE = {
    spec.name: {index.name: ObservedIndex(index.fields, index.unique) for index in spec.indexes}
    for spec in COLLECTIONS
}


def test_an_empty_database_lacks_every_index() -> None:
    actions = plan(Observed(None, False, {}), Placement())
    assert [str(action) for action in actions if isinstance(action, CreateIndex)] == [str(a) for a in actions]
    assert len(actions) == sum(len(spec.indexes) for spec in COLLECTIONS)
    assert "create unique index channel_id_seq on events" in [str(action) for action in actions]


def test_a_whole_database_lacks_nothing() -> None:
    assert plan(Observed(1, False, WHOLE), Placement({"eu": ["s1"]})) == []


def test_an_index_that_differs_is_made_anew_and_a_strange_one_is_left_alone() -> None:
    found = {
        **WHOLE,
        "events": {**WHOLE["events"], "channel_id_seq": ObservedIndex(("channel_id", "seq"), False)},
    }
    found["users"] = {"somebody_made_this": ObservedIndex(("about",), False)}
    drop, create = plan(Observed(1, False, found), Placement())
    assert isinstance(drop, DropIndex) and isinstance(create, CreateIndex)
    assert (drop.name, drop.replaced, create.index.unique) == ("channel_id_seq", True, True)


def test_on_a_router_collections_are_sharded_split_and_kept_near() -> None:
    placement = Placement({"eu": ["s1", "s2"], "us": []})
    actions = plan(Observed(1, True, WHOLE, zones={"eu": frozenset({"s1"})}), placement)
    assert [a for a in actions if isinstance(a, AddToZone)] == [AddToZone("s2", "eu")]
    shards = {a.collection: a for a in actions if isinstance(a, Shard)}
    assert set(shards) == {spec.name for spec in COLLECTIONS}
    assert (shards["events"].key, shards["channels"].key, shards["users"].key) == ("channel_id", "_id", "_id")
    points = shards["events"].split_at
    assert len(points) == 2 * 2 * 16 and points == tuple(sorted(points)) and shards["users"].split_at == ()
    assert {"eu_g", "eu_g8", "eu_pf", "us_p"} <= set(points)
    near = {(a.collection, a.region) for a in actions if isinstance(a, KeepNear)}
    assert near == {(name, "eu") for name in ("events", "channels", "memberships", "reactions")}


def test_what_is_sharded_is_not_sharded_again() -> None:
    sharded = {spec.name: spec.shard_key for spec in COLLECTIONS}
    assert plan(Observed(1, True, WHOLE, sharded), Placement({"eu": []})) == []


async def test_applying_is_idempotent_on_a_real_server(mongo_url: str) -> None:
    store = await open_mongo(mongo_url)
    try:
        assert len(await store.plan_schema()) == sum(len(spec.indexes) for spec in COLLECTIONS)
        await store.ensure_schema()
        assert await store.plan_schema() == []
        await store.ensure_schema()
        await store.check()
        await store._collections.events.drop_index("channel_id_seq")
        assert await store.plan_schema() == ["create unique index channel_id_seq on events"]
    finally:
        await store.aclose()


@pytest.mark.parametrize("unique_prefix", [spec for spec in COLLECTIONS if spec.shard_key != "_id"])
def test_unique_indexes_begin_with_the_shard_key(unique_prefix: object) -> None:
    """Else a sharded server refuses them."""
    spec = unique_prefix
    assert all(index.fields[0] == spec.shard_key for index in spec.indexes if index.unique)  # type: ignore[attr-defined]
