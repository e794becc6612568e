"""What only a mongos does: shards, chunks and zones, kept in `config` where a client looks them up. Nothing moves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

from bson import Binary, MaxKey, MinKey
from support.mongo.commands.call import Call, Handler, done
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.store import Store
from support.mongo.values import is_operators, order
from support.mongo.wire import Document


def enable_sharding(call: Call) -> Document:
    database = call.command["enableSharding"]
    known = call.server.store.collection("config.databases")
    if not known.find({"_id": database}):
        known.insert({"_id": database, "primary": _primary(call)})
    return done()


def shard_collection(call: Call) -> Document:
    """The same again is no error; another key is."""
    namespace, key = call.command["shardCollection"], call.command["key"]
    store = call.server.store
    present = _sharded(store, namespace)
    if present is not None:
        if list(present["key"].items()) == list(key.items()) and present["unique"] == _unique(call):
            return done(collectionsharded=namespace)
        raise CommandError(
            ErrorCode.ALREADY_INITIALIZED,
            f"sharding already enabled for collection {namespace} with another key",
        )
    _index_for(store, namespace, key, unique=_unique(call))
    identity = Binary.from_uuid(uuid.uuid4())
    described = {"_id": namespace, "key": key, "unique": _unique(call), "noBalance": False, "uuid": identity}
    store.collection("config.collections").insert(described)
    lowest = {path: MinKey() for path in key}
    highest = {path: MaxKey() for path in key}
    _add_chunk(store, identity, lowest, highest, _primary(call))
    return done(collectionsharded=namespace)


def _index_for(store: Store, namespace: str, key: Document, *, unique: bool) -> None:
    """A sharded collection has an index that begins with its key, and no unique one that does not."""
    collection = store.collection(namespace)
    indexes = list(collection.indexes.values())
    for index in indexes:
        if index.unique and index.name != "_id_" and not _begins_with(index.key, key):
            raise CommandError(
                ErrorCode.INVALID_OPTIONS,
                f"can't shard collection '{namespace}' with unique index on {index.key} "
                f"and proposed shard key {key}. "
                "Uniqueness can't be maintained unless shard key is a prefix",
            )
    if any(_begins_with(index.key, key) for index in indexes):
        return
    if collection.documents:
        raise CommandError(
            ErrorCode.INVALID_OPTIONS,
            "Please create an index that starts with the proposed shard key before sharding the collection",
        )
    name = "_".join(f"{path}_{kind}" for path, kind in key.items())
    collection.create_index({"key": key, "name": name} | ({"unique": True} if unique else {}))


def split(call: Call) -> Document:
    """At a named key. The server's refusals have no code here: that is how `split` answers."""
    namespace, middle = call.command["split"], call.command.get("middle")
    described = _must_be_sharded(call.server.store, namespace)
    if middle is None:
        raise CommandError(None, "need to specify find/bounds or middle")
    if list(middle) != list(described["key"]):
        raise CommandError(
            None, f"new split key {middle} is not valid for shard key pattern {described['key']}"
        )
    chunk = _chunk_of(call.server.store, described, middle)
    if order(chunk["min"]) == order(middle):
        bounds = f"[{chunk['min']},{chunk['max']})"
        raise CommandError(None, f"new split key {middle} is a boundary key of existing chunk {bounds}")
    chunks = call.server.store.collection("config.chunks")
    chunks.delete({"_id": chunk["_id"]}, 1)
    _add_chunk(call.server.store, chunk["uuid"], chunk["min"], middle, chunk["shard"])
    _add_chunk(call.server.store, chunk["uuid"], middle, chunk["max"], chunk["shard"])
    return done()


def move_chunk(call: Call) -> Document:
    described = _must_be_sharded(call.server.store, call.command["moveChunk"])
    target = call.command["to"]
    _shard(call, target)
    at = call.command["bounds"][0] if "bounds" in call.command else call.command["find"]
    chunk = _chunk_of(call.server.store, described, at)
    call.server.store.collection("config.chunks").update(
        {"_id": chunk["_id"]}, {"$set": {"shard": target}}, upsert=False, multi=False
    )
    return done(millis=1)


def list_shards(call: Call) -> Document:
    return done(shards=list(call.server.store.collection("config.shards").documents.values()))


def add_shard_to_zone(call: Call) -> Document:
    return _change_zones(call, call.command["addShardToZone"], "$addToSet")


def remove_shard_from_zone(call: Call) -> Document:
    return _change_zones(call, call.command["removeShardFromZone"], "$pull")


def _change_zones(call: Call, shard: str, operator: str) -> Document:
    _shard(call, shard)
    call.server.store.collection("config.shards").update(
        {"_id": shard}, {operator: {"tags": call.command["zone"]}}, upsert=False, multi=False
    )
    return done()


def update_zone_key_range(call: Call) -> Document:
    """The same range and zone again is no error; a zone that no shard is in, or a range that overlaps, is."""
    namespace, zone = call.command["updateZoneKeyRange"], call.command["zone"]
    low, high = call.command["min"], call.command["max"]
    ranges = call.server.store.collection("config.tags")
    identity = {"ns": namespace, "min": low}
    if zone is None:
        ranges.delete({"ns": namespace, "min": {"$eq": low}, "max": {"$eq": high}}, 1)
        return done()
    if not any(zone in shard.get("tags", []) for shard in list_shards(call)["shards"]):
        raise CommandError(ErrorCode.ZONE_NOT_FOUND, f"zone {zone} does not exist")
    for present in ranges.find({"ns": namespace}):
        same = order(present["min"]) == order(low) and order(present["max"]) == order(high)
        if same and present["tag"] == zone:
            return done()
        if order(low) < order(present["max"]) and order(present["min"]) < order(high):
            raise CommandError(
                ErrorCode.RANGE_OVERLAP_CONFLICT,
                f"Zone range: {{ min: {low}, max: {high} }} is overlapping with existing: {present}",
            )
    ranges.insert({"_id": identity, "ns": namespace, "min": low, "max": high, "tag": zone})
    return done()


def refuse_unique_across_shards(call: Call, specs: list[Document]) -> None:
    """No shard knows what another has: a unique index of a sharded collection begins with the shard key."""
    described = _sharded(call.server.store, call.namespace)
    for spec in specs if described else []:
        if described and spec.get("unique") and not _begins_with(spec["key"], described["key"]):
            raise CommandError(
                ErrorCode.CANNOT_CREATE_INDEX,
                f"cannot create unique index over {spec['key']} with shard key pattern {described['key']}",
            )


def note_target(call: Call, filters: Mapping[str, object]) -> None:
    """Note a command that a mongos has to send to all shards, because its filter does not name the shard key."""
    described = _sharded(call.server.store, call.namespace)
    if described is not None and not all(_names(filters, path) for path in described["key"]):
        call.server.broadcasts.append(call.command)


def _names(filters: Mapping[str, object], path: str) -> bool:
    condition = filters.get(path, {"$exists": True})
    return not is_operators(condition) or bool({"$eq", "$in"} & set(condition))  # type: ignore[call-overload]


def _begins_with(index: Document, key: Document) -> bool:
    return list(index.items())[: len(key)] == list(key.items())


def _unique(call: Call) -> bool:
    return bool(call.command.get("unique"))


def _primary(call: Call) -> str:
    return str(list_shards(call)["shards"][0]["_id"])


def _shard(call: Call, name: str) -> Document:
    for shard in list_shards(call)["shards"]:
        if shard["_id"] == name:
            return dict(shard)
    raise CommandError(ErrorCode.SHARD_NOT_FOUND, f"shard {name} does not exist")


def _sharded(store: Store, namespace: str) -> Document | None:
    known = store.collections.get("config.collections")
    found = known.find({"_id": namespace}) if known else []
    return found[0] if found else None


def _must_be_sharded(store: Store, namespace: str) -> Document:
    described = _sharded(store, namespace)
    if described is None:
        raise CommandError(ErrorCode.NAMESPACE_NOT_SHARDED, f"Collection {namespace} is not sharded.")
    return described


def _add_chunk(store: Store, identity: Binary, low: Document, high: Document, shard: str) -> None:
    store.collection("config.chunks").insert({"uuid": identity, "min": low, "max": high, "shard": shard})


def _chunk_of(store: Store, described: Document, at: Document) -> Document:
    """The chunk that a shard key value is in. Chunks cover everything, so there is one."""
    for chunk in store.collection("config.chunks").find({"uuid": described["uuid"]}):
        if _point(chunk["min"]) <= _point(at) < _point(chunk["max"]):
            return chunk
    raise CommandError(ErrorCode.BAD_VALUE, f"no chunk has {at}")


def _point(key: Document) -> tuple[object, ...]:
    return tuple(order(each) for each in key.values())


def _on_mongos(handler: Handler) -> Handler:
    """A mongod has none of these commands."""

    def guarded(call: Call) -> Document:
        if not call.server.role.is_mongos:
            raise CommandError(ErrorCode.COMMAND_NOT_FOUND, f"no such command: '{call.name}'")
        if call.database != "admin":
            raise CommandError(
                ErrorCode.UNAUTHORIZED, f"{call.name} may only be run against the admin database."
            )
        return handler(call)

    return guarded


_HANDLERS: dict[str, Callable[[Call], Document]] = {
    "enableSharding": enable_sharding,
    "shardCollection": shard_collection,
    "split": split,
    "moveChunk": move_chunk,
    "listShards": list_shards,
    "addShardToZone": add_shard_to_zone,
    "removeShardFromZone": remove_shard_from_zone,
    "updateZoneKeyRange": update_zone_key_range,
}
COMMANDS: dict[str, Handler] = {name: _on_mongos(handler) for name, handler in _HANDLERS.items()}
