"""Observes a database, and carries out what it lacks of the schema.

Every step is idempotent: a server takes an index that is there already for made, and a collection that is sharded by
the same key for sharded. So several may do this at once. Index builds of current servers hold up no writers.
"""

from __future__ import annotations

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from chatkernel.errors import ChatError, Code
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.migration import (
    Action,
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
from chatkernel.storage.mongo.schema import COLLECTIONS, SCHEMA_VERSION

_VERSION_ID = "chatcluster"
_NO_COLLECTION = 26
_NO_COMMAND = 59
_INDEX_NOT_FOUND = 27
_ALREADY = frozenset({20, 23, 48})
"""Sharded or made by somebody else meanwhile (IllegalOperation, AlreadyInitialized, NamespaceExists)."""


class Migrator:
    """Methods raise PyMongoError, and ChatError(STORAGE_UNAVAILABLE) for a schema from the future."""

    def __init__(
        self, client: AsyncMongoClient[Document], database: AsyncDatabase[Document], placement: Placement
    ) -> None:
        self._client, self._database, self._placement = client, database, placement

    async def plan(self) -> list[Action]:
        return plan(await self._observe(), self._placement)

    async def apply(self) -> list[Action]:
        """What was done."""
        actions = await self.plan()
        for action in actions:
            await self._do(action)
        await self._database["schema"].update_one(
            {"_id": _VERSION_ID}, {"$max": {"version": SCHEMA_VERSION}}, upsert=True
        )
        return actions

    async def version(self) -> int | None:
        """None: there is no schema yet."""
        found = await self._database["schema"].find_one({"_id": _VERSION_ID})
        if found is None:
            return None
        version = int(found["version"])
        if version > SCHEMA_VERSION:
            raise ChatError(
                Code.STORAGE_UNAVAILABLE,
                f"The store has schema version {version}, this program knows {SCHEMA_VERSION}: use a newer one",
            )
        return version

    async def _observe(self) -> Observed:
        version = await self.version()
        router = await self._is_router()
        indexes = {spec.name: await self._indexes(spec.name) for spec in COLLECTIONS}
        if not router:
            return Observed(version, router, indexes)
        config = self._client.get_database("config")
        prefix = f"{self._database.name}."
        sharded = {
            each["_id"].removeprefix(prefix): next(iter(each["key"]))
            async for each in config["collections"].find({})
            if each["_id"].startswith(prefix) and each.get("key")
        }
        zones: dict[str, set[str]] = {}
        async for shard in config["shards"].find({}):
            for zone in shard.get("tags", []):
                zones.setdefault(zone, set()).add(shard["_id"])
        frozen = {zone: frozenset(shards) for zone, shards in zones.items()}
        return Observed(version, router, indexes, sharded, frozen)

    async def _is_router(self) -> bool:
        try:
            hello = await self._client.admin.command("hello")
        except OperationFailure as error:
            if error.code == _NO_COMMAND:  # compatible servers: they have no shards either
                return False
            raise
        return bool(hello.get("msg") == "isdbgrid")

    async def _indexes(self, collection: str) -> dict[str, ObservedIndex]:
        try:
            found = await (await self._database[collection].list_indexes()).to_list()
        except OperationFailure as error:
            if error.code == _NO_COLLECTION:
                return {}
            raise
        return {
            each["name"]: ObservedIndex(tuple(each["key"]), bool(each.get("unique", False)))
            for each in found
            if each["name"] != "_id_"
        }

    async def _do(self, action: Action) -> None:
        admin = self._client.admin
        match action:
            case CreateIndex(collection=name, index=index):
                await self._database[name].create_indexes([index.model()])
            case DropIndex(collection=name, name=index_name):
                try:
                    await self._database[name].drop_index(index_name)
                except OperationFailure as error:
                    if error.code != _INDEX_NOT_FOUND:
                        raise
            case Shard(collection=name, key=key, split_at=points):
                if await self._shard(name, key):
                    for point in points:
                        await self._split(name, key, point)
            case AddToZone(shard=shard, zone=zone):
                await admin.command("addShardToZone", shard, zone=zone)
            case KeepNear(collection=name, key=key, region=region):
                await admin.command(
                    "updateZoneKeyRange",
                    f"{self._database.name}.{name}",
                    # "`" is the character after "_": every id of the region lies between.
                    min={key: f"{region}_"},
                    max={key: f"{region}`"},
                    zone=region,
                )

    async def _shard(self, name: str, key: str) -> bool:
        """False: somebody else did."""
        try:
            await self._database.create_collection(name)
        except (CollectionInvalid, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in _ALREADY:
                raise
        try:
            await self._client.admin.command("enableSharding", self._database.name)
            await self._client.admin.command("shardCollection", f"{self._database.name}.{name}", key={key: 1})
        except OperationFailure as error:
            if error.code not in _ALREADY:
                raise
            return False
        return True

    async def _split(self, name: str, key: str, point: str) -> None:
        """A point that is a boundary already is no fault."""
        try:
            await self._client.admin.command("split", f"{self._database.name}.{name}", middle={key: point})
        except OperationFailure as error:
            if "boundary" not in str(error):
                raise
