"""Collections and their indexes."""

from __future__ import annotations

from support.mongo.collection import Collection
from support.mongo.commands.call import Call, Handler, done
from support.mongo.commands.sharding import refuse_unique_across_shards
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document


def create_indexes(call: Call) -> Document:
    store = call.server.store
    automatically = call.namespace not in store.collections
    refuse_unique_across_shards(call, call.command["indexes"])
    collection = store.collection(call.namespace)
    before = len(collection.indexes)
    made = [collection.create_index(spec) for spec in call.command["indexes"]]
    answer: Document = {
        "numIndexesBefore": before,
        "numIndexesAfter": len(collection.indexes),
        "createdCollectionAutomatically": automatically,
    }
    return done(**answer) if any(made) else done(**answer, note="all indexes already exist")


def list_indexes(call: Call) -> Document:
    specs = [index.spec for index in _present(call).indexes.values()]
    return call.server.store.cursor(call.namespace, specs, call.command)


def drop_indexes(call: Call) -> Document:
    """One by name or by key, several by name, or all but that of `_id`."""
    collection = _present(call)
    before = len(collection.indexes)
    wanted = call.command["index"]
    if isinstance(wanted, dict):
        named = [each.name for each in collection.indexes.values() if each.key == wanted]
        if not named:
            raise CommandError(ErrorCode.INDEX_NOT_FOUND, f"can't find index with key: {wanted}")
    elif wanted == "*":
        named = [each for each in collection.indexes if each != "_id_"]
    else:
        named = wanted if isinstance(wanted, list) else [wanted]
    for each in named:
        collection.drop_index(each)
    return done(nIndexesWas=before)


def create(call: Call) -> Document:
    if call.namespace in call.server.store.collections:
        raise CommandError(ErrorCode.NAMESPACE_EXISTS, f"Collection {call.namespace} already exists.")
    call.server.store.collection(call.namespace)
    return done()


def drop(call: Call) -> Document:
    """Of a collection that is not there, too: since 7.0 that is no error."""
    dropped = call.server.store.collections.pop(call.namespace, None)
    return done() if dropped is None else done(ns=call.namespace, nIndexesWas=len(dropped.indexes))


def drop_database(call: Call) -> Document:
    store = call.server.store
    for name in store.names(call.database):
        del store.collections[f"{call.database}.{name}"]
    return done(dropped=call.database)


def list_collections(call: Call) -> Document:
    wanted = call.command.get("filter", {}).get("name")
    shown = [
        {"name": name, "type": "collection", "options": {}, "info": {"readOnly": False}}
        for name in call.server.store.names(call.database)
        if wanted in {None, name}
    ]
    return call.server.store.cursor(f"{call.database}.$cmd.listCollections", shown, call.command)


def list_databases(call: Call) -> Document:
    names = sorted({each.partition(".")[0] for each in call.server.store.collections})
    return done(
        databases=[{"name": each, "sizeOnDisk": 8192, "empty": False} for each in names], totalSize=8192
    )


def _present(call: Call) -> Collection:
    present = call.server.store.collections.get(call.namespace)
    if present is None:
        raise CommandError(ErrorCode.NAMESPACE_NOT_FOUND, f"ns does not exist: {call.namespace}")
    return present


COMMANDS: dict[str, Handler] = {
    "createIndexes": create_indexes,
    "listIndexes": list_indexes,
    "dropIndexes": drop_indexes,
    "create": create,
    "drop": drop,
    "dropDatabase": drop_database,
    "listCollections": list_collections,
    "listDatabases": list_databases,
}
