"""Carries out what a database lacks of the schema.

Every step is idempotent: a server takes an index that is there already for made, and a collection that is sharded by
the same key for sharded. So several may do this at once. Index builds of MongoDB 4.2 and later hold up no writers.
"""

from __future__ import annotations

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from chatkernel.errors import ChatError, Code
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import DUPLICATE_KEY
from chatkernel.storage.mongo.migration import (
    Action,
    AddToZone,
    CreateIndex,
    DropIndex,
    KeepNear,
    NoteVersion,
    ObservedIndex,
    ReplaceIndex,
    Shard,
    Split,
    bounds_of,
    plan,
    split_points,
)
from chatkernel.storage.mongo.observe import VERSION_ID, Observer, split_id
from chatkernel.storage.mongo.schema import SCHEMA_VERSION, IndexSpec
from chatkernel.storage.schema_step import Placement, SchemaStep, StepKind

BUILD_TIMEOUT_S = 86_400
"""Of one step. The driver takes no bound at all for "as the client has it", and tells it to the server."""
_INDEX_NOT_FOUND = 27
_ALREADY = frozenset({20, 23, 48})
"""Sharded or made by somebody else meanwhile (IllegalOperation, AlreadyInitialized, NamespaceExists)."""
_BUSY = frozenset({46, 117})
"""Somebody else moves chunks of the collection (LockBusy, ConflictingOperationInProgress)."""


class Migrator:
    """Methods raise PyMongoError, and ChatError(STORAGE_UNAVAILABLE) for a schema from the future and for what
    cannot be done."""

    def __init__(self, client: AsyncMongoClient[Document], database: AsyncDatabase[Document]) -> None:
        self._client, self._database = client, database
        self._observer = Observer(client, database)

    async def version(self) -> int | None:
        """None: there is no schema yet."""
        return await self._observer.version()

    async def plan(self, placement: Placement) -> list[SchemaStep]:
        return [_step(action) for action in await self._actions(placement)]

    async def apply(self, placement: Placement, *, allow_destructive: bool) -> list[SchemaStep]:
        """What was done."""
        done: list[SchemaStep] = []
        for action in await self._actions(placement):
            step = _step(action)
            if step.kind is StepKind.BY_HAND or (step.destructive and not allow_destructive):
                continue
            # Building an index takes as long as it takes: the bound of ordinary operations would end it.
            with pymongo.timeout(BUILD_TIMEOUT_S):
                await self._do(action)
            done.append(step)
        return done

    async def _actions(self, placement: Placement) -> list[Action]:
        return plan(await self._observer.observe(), placement)

    async def _do(self, action: Action) -> None:
        match action:
            case CreateIndex(collection=name, index=index):
                await self._create(name, index, action.name)
            case DropIndex(collection=name, found=found):
                await self._drop(name, action.name, found)
            case ReplaceIndex(collection=name, index=index, found=found):
                await self._drop(name, action.name, found)
                await self._create(name, index, action.name)
            case Shard(collection=name, key=key):
                await self._shard(name, key)
            case Split():
                await self._split(action)
            case AddToZone(shard=shard, zone=zone):
                await self._client.admin.command("addShardToZone", shard, zone=zone)
            case KeepNear(collection=name, key=key, region=region):
                low, high = bounds_of(region)
                await self._client.admin.command(
                    "updateZoneKeyRange",
                    self._namespace(name),
                    min={key: low},
                    max={key: high},
                    zone=region,
                )
            case NoteVersion():
                await self._database["schema"].update_one(
                    {"_id": VERSION_ID}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True
                )

    def _namespace(self, collection: str) -> str:
        return f"{self._database.name}.{collection}"

    async def _create(self, collection: str, index: IndexSpec, name: str) -> None:
        try:
            await self._database[collection].create_indexes([index.model(name)])
        except OperationFailure as error:
            if error.code != DUPLICATE_KEY:
                raise
            raise ChatError(
                Code.STORAGE_UNAVAILABLE,
                f"The unique index {name} on {collection} cannot be made: some documents have the same "
                f"{', '.join(index.fields)}. Remove the wrong ones, or restore a backup",
            ) from error

    async def _drop(self, collection: str, name: str, found: ObservedIndex) -> None:
        """Only what was seen: another may have made the right one of this name meanwhile."""
        if (await self._observer.indexes(collection)).get(name) != found:
            return
        try:
            await self._database[collection].drop_index(name)
        except OperationFailure as error:
            if error.code != _INDEX_NOT_FOUND:
                raise

    async def _shard(self, name: str, key: str) -> None:
        try:
            await self._database.create_collection(name)
        except (CollectionInvalid, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in _ALREADY:
                raise
        try:
            await self._client.admin.command("enableSharding", self._database.name)
            await self._client.admin.command("shardCollection", self._namespace(name), key={key: 1})
        except OperationFailure as error:
            if error.code not in _ALREADY:
                raise

    async def _split(self, action: Split) -> None:
        """What of the region is there already stays where it is: the balancer moves that by its size."""
        name, key = action.collection, action.key
        low, high = bounds_of(action.region)
        empty = await self._database[name].find_one({key: {"$gte": low, "$lt": high}}, {"_id": 1}) is None
        for number, point in enumerate(split_points(action.region)):
            await self._split_at(name, {key: point})
            if empty:
                await self._move(name, {key: point}, action.shards[number % len(action.shards)])
        await self._database["schema"].update_one(
            {"_id": split_id(name, action.region)}, {"$set": {"done": True}}, upsert=True
        )

    async def _split_at(self, name: str, point: Document) -> None:
        """A point that is a boundary already is no fault."""
        try:
            await self._client.admin.command("split", self._namespace(name), middle=point)
        except OperationFailure as error:
            if "boundary" not in str(error):
                raise

    async def _move(self, name: str, point: Document, shard: str) -> None:
        """To where it is already is no fault. While the balancer or another of us moves something, it is left to
        these."""
        try:
            await self._client.admin.command("moveChunk", self._namespace(name), find=point, to=shard)
        except OperationFailure as error:
            if error.code not in _BUSY:
                raise


def _step(action: Action) -> SchemaStep:
    return SchemaStep(action.kind, str(action))
