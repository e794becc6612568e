"""Looks at what a database has of the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from chatkernel.errors import ChatError, Code
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.migration import Observed, ObservedIndex, regions_near
from chatkernel.storage.mongo.schema import COLLECTIONS, SCHEMA_VERSION

VERSION_ID = "chatcluster"
_NO_COLLECTION = 26
_NO_COMMAND = 59

_PLAIN = frozenset({"v", "key", "name", "ns", "unique", "background"})
"""What every index has, and what is of no matter in one."""
_SIGNATURE = frozenset({"collation", "partialFilterExpression", "sparse"})
"""Options by which the server tells indexes of the same fields apart, besides `unique`."""


def split_id(collection: str, region: str) -> str:
    """The document that says so: boundaries themselves may be merged away later."""
    return f"split {collection} {region}"


class Observer:
    """Methods raise PyMongoError, and ChatError(STORAGE_UNAVAILABLE) for a schema from the future."""

    def __init__(self, client: AsyncMongoClient[Document], database: AsyncDatabase[Document]) -> None:
        self._client, self._database = client, database

    async def version(self) -> int | None:
        """None: there is no schema yet."""
        found = await self._database["schema"].find_one({"_id": VERSION_ID})
        if found is None:
            return None
        version = int(found["version"])
        if version > SCHEMA_VERSION:
            raise ChatError(
                Code.STORAGE_UNAVAILABLE,
                f"The store has schema version {version}, this program knows up to {SCHEMA_VERSION}: "
                "use the release that made it, or a newer one",
            )
        return version

    async def observe(self) -> Observed:
        version = await self.version()
        indexes = {spec.name: await self.indexes(spec.name) for spec in COLLECTIONS}
        if not await self._is_router():
            return Observed(version, False, indexes)
        # The URL may want reads from secondaries: what decides is read from the primary.
        config = self._client.get_database(
            "config", read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("majority")
        )
        prefix = f"{self._database.name}."
        sharded = {
            each["_id"].removeprefix(prefix): next(iter(each["key"]))
            async for each in config["collections"].find({})
            if each["_id"].startswith(prefix) and each.get("key")
        }
        shards = {each["_id"]: each.get("tags", []) async for each in config["shards"].find({})}
        zones = {zone: frozenset(s for s, has in shards.items() if zone in has) for zone in _all(shards)}
        ranges = [
            (each["ns"].removeprefix(prefix), *_ends(each), each["tag"])
            async for each in config["tags"].find({})
            if each["ns"].startswith(prefix)
        ]
        return Observed(
            version,
            True,
            indexes,
            sharded,
            zones,
            tuple(sorted(shards)),
            regions_near(ranges),
            await self._splits(),
        )

    async def indexes(self, collection: str) -> dict[str, ObservedIndex]:
        try:
            found = await (await self._database[collection].list_indexes()).to_list()
        except OperationFailure as error:
            if error.code == _NO_COLLECTION:
                return {}
            raise
        return {each["name"]: _index(each) for each in found if each["name"] != "_id_"}

    async def _splits(self) -> frozenset[tuple[str, str]]:
        found = {each["_id"] async for each in self._database["schema"].find({"done": True})}
        words = [tuple(each.split(" ")) for each in found]
        return frozenset((each[1], each[2]) for each in words if len(each) == 3 and each[0] == "split")

    async def _is_router(self) -> bool:
        try:
            hello = await self._client.admin.command("hello")
        except OperationFailure as error:
            if error.code == _NO_COMMAND:  # compatible servers: they have no shards either
                return False
            raise
        return bool(hello.get("msg") == "isdbgrid")


def _index(found: Mapping[str, Any]) -> ObservedIndex:
    options = {name for name, value in found.items() if value is not False} - _PLAIN
    turned = any(direction != 1 for direction in found["key"].values())
    return ObservedIndex(
        tuple(found["key"]),
        bool(found.get("unique", False)),
        odd=turned or bool(options),
        apart=turned or bool(options & _SIGNATURE),
    )


def _all(shards: Mapping[str, list[str]]) -> set[str]:
    return {zone for has in shards.values() for zone in has}


def _ends(found: Mapping[str, Any]) -> tuple[str, str]:
    low, high = next(iter(found["min"].values())), next(iter(found["max"].values()))
    return str(low), str(high)
