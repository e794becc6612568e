"""All ports on MongoDB."""

from __future__ import annotations

from pymongo import AsyncMongoClient

from chatkernel.storage.mongo.accounts import MongoAccounts
from chatkernel.storage.mongo.changes import Changes
from chatkernel.storage.mongo.client import Collections, connect, database_of
from chatkernel.storage.mongo.conversations import MongoConversations
from chatkernel.storage.mongo.devices import MongoDevices
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import translated
from chatkernel.storage.mongo.event_log import MongoEventLog
from chatkernel.storage.mongo.membership import Membership
from chatkernel.storage.mongo.people import MongoPeople
from chatkernel.storage.mongo.schema import check_schema, ensure_schema
from chatkernel.storage.mongo.trailing import Trail


class MongoStore(MongoEventLog, MongoConversations, MongoAccounts, MongoDevices, MongoPeople):
    """One client of a process behind all ports."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        self._client = client
        self._collections = Collections(database_of(client))
        self._trail = Trail(self._collections)
        self._membership = Membership(self._collections)
        self._changes = Changes(self._collections)

    async def ensure_schema(self) -> None:
        await ensure_schema(self._collections.database)

    async def check(self) -> None:
        await check_schema(self._collections.database)

    async def aclose(self) -> None:
        await self._trail.aclose()
        await self._client.close()


async def open_mongo(url: str) -> MongoStore:
    """Raises ChatError(INVALID_FIELD | STORAGE_UNAVAILABLE)."""
    client = connect(url)
    try:
        with translated():
            await client.admin.command("ping")
    except BaseException:
        await client.close()
        raise
    return MongoStore(client)
