"""What the schema's plan does about each thing that can be found."""

from __future__ import annotations

import pytest

from chatkernel.storage.mongo.migration import (
    AddToZone,
    CreateIndex,
    DropIndex,
    KeepNear,
    NoteVersion,
    Observed,
    ObservedIndex,
    ReplaceIndex,
    Shard,
    Split,
    plan,
    split_points,
)
from chatkernel.storage.mongo.schema import COLLECTIONS, SCHEMA_VERSION
from chatkernel.storage.mongo.store import open_mongo
from chatkernel.storage.schema_step import Placement, StepKind

WHOLE = {
    spec.name: {index.name: ObservedIndex(index.fields, index.unique) for index in spec.indexes}
    for spec in COLLECTIONS
}


def test_an_empty_database_lacks_every_index() -> None:
    *actions, version = plan(Observed(None, False, {}), Placement())
    assert all(isinstance(action, CreateIndex) for action in actions)
    assert len(actions) == sum(len(spec.indexes) for spec in COLLECTIONS)
    assert isinstance(version, NoteVersion)


def test_a_whole_database_lacks_nothing() -> None:
    assert plan(Observed(SCHEMA_VERSION, False, WHOLE), Placement({"eu": ["s1"]})) == []


def indexed(collection: str, **indexes: ObservedIndex) -> Observed:
    return Observed(SCHEMA_VERSION, False, {**WHOLE, collection: {**WHOLE[collection], **indexes}})


def test_an_index_that_differs_gets_the_right_one_beside_it_before_it_goes() -> None:
    found = ObservedIndex(("channel_id", "seq"), False)
    create, drop = plan(indexed("events", channel_id_seq=found), Placement())
    assert isinstance(create, CreateIndex) and isinstance(drop, DropIndex)
    assert (create.name, create.index.unique, create.kind) == ("channel_id_seq_2", True, StepKind.ADDS)
    assert (drop.name, drop.found, drop.kind) == ("channel_id_seq", found, StepKind.REMOVES)


def test_the_right_index_of_another_name_will_do() -> None:
    events = {f"{name}_x": found for name, found in WHOLE["events"].items()}
    assert plan(Observed(SCHEMA_VERSION, False, {**WHOLE, "events": events}), Placement()) == []


def test_a_strange_index_is_taken_away_only_when_allowed() -> None:
    (drop,) = plan(indexed("users", somebody_made_this=ObservedIndex(("about",), False)), Placement())
    assert isinstance(drop, DropIndex) and drop.kind is StepKind.REMOVES


def test_an_index_that_is_ours_but_hidden_has_to_go_first() -> None:
    hidden = ObservedIndex(("channel_id", "seq"), True, odd=True, apart=False)
    (replace,) = plan(indexed("events", channel_id_seq=hidden), Placement())
    assert isinstance(replace, ReplaceIndex) and replace.kind is StepKind.REPLACES


def test_on_a_router_collections_are_sharded_split_and_kept_near() -> None:
    placement = Placement({"eu": ["s1", "s2"], "us": []})
    observed = Observed(
        SCHEMA_VERSION, True, WHOLE, zones={"eu": frozenset({"s1"})}, shards=("s1", "s2", "s3")
    )
    actions = plan(observed, placement)
    assert [a for a in actions if isinstance(a, AddToZone)] == [AddToZone("s2", "eu")]
    assert {(a.collection, a.key) for a in actions if isinstance(a, Shard)} == {
        (spec.name, spec.shard_key) for spec in COLLECTIONS
    }
    by_channel = ("events", "channels", "memberships", "reactions")
    splits = {(a.collection, a.region): a.shards for a in actions if isinstance(a, Split)}
    assert splits == {
        (name, region): shards
        for name in by_channel
        for region, shards in {"eu": ("s1", "s2"), "us": ("s1", "s2", "s3")}.items()
    }
    near = {(a.collection, a.region) for a in actions if isinstance(a, KeepNear)}
    assert near == {(name, "eu") for name in by_channel}


def test_the_points_of_a_region_are_where_its_ids_begin() -> None:
    points = split_points("eu")
    assert len(points) == 2 * 16 and points == tuple(sorted(points))
    assert {"eu_g", "eu_g8", "eu_pf"} <= set(points)


def test_what_is_sharded_is_not_sharded_again() -> None:
    sharded = {spec.name: spec.shard_key for spec in COLLECTIONS}
    done = frozenset((spec.name, "eu") for spec in COLLECTIONS)
    assert plan(Observed(SCHEMA_VERSION, True, WHOLE, sharded, split=done), Placement({"eu": []})) == []


async def test_applying_is_idempotent_on_a_real_server(mongo_url: str) -> None:
    store = await open_mongo(mongo_url)
    try:
        assert len(await store.plan_schema()) == sum(len(spec.indexes) for spec in COLLECTIONS) + 1
        await store.ensure_schema()
        assert await store.plan_schema() == []
        await store.ensure_schema()
        await store.check()
        await store._collections.events.drop_index("channel_id_seq")
        (step,) = await store.plan_schema()
        assert step.does == "create unique index channel_id_seq on events (channel_id, seq)"
    finally:
        await store.aclose()


@pytest.mark.parametrize("unique_prefix", [spec for spec in COLLECTIONS if spec.shard_key != "_id"])
def test_unique_indexes_begin_with_the_shard_key(unique_prefix: object) -> None:
    """Else a sharded server refuses them."""
    spec = unique_prefix
    assert all(index.fields[0] == spec.shard_key for index in spec.indexes if index.unique)  # type: ignore[attr-defined]
