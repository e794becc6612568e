"""All ports on MongoDB."""

from __future__ import annotations

from pymongo import AsyncMongoClient

from chatkernel.errors import ChatError, Code
from chatkernel.storage.mongo.accounts import MongoAccounts
from chatkernel.storage.mongo.client import Collections, close, connect, database_of, history_of
from chatkernel.storage.mongo.conversations import MongoConversations
from chatkernel.storage.mongo.devices import MongoDevices
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.effects import Effects
from chatkernel.storage.mongo.errors import translated
from chatkernel.storage.mongo.event_log import MongoEventLog
from chatkernel.storage.mongo.head_audit import HeadAudit
from chatkernel.storage.mongo.jobs import MongoJobs
from chatkernel.storage.mongo.lifecycle import MongoLifecycle
from chatkernel.storage.mongo.migrate import Migrator
from chatkernel.storage.mongo.people import MongoPeople
from chatkernel.storage.mongo.schema import SCHEMA_VERSION
from chatkernel.storage.mongo.trailing import Trail
from chatkernel.storage.schema_step import ANYWHERE, Placement, SchemaStep


class MongoStore(
    MongoEventLog, MongoConversations, MongoAccounts, MongoDevices, MongoPeople, MongoLifecycle, MongoJobs
):
    """One client of a process behind all ports."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        self._client = client
        self._collections = Collections(database_of(client))
        self._history = Collections(history_of(client))
        self._trail = Trail(self._collections)
        self._effects = Effects(self._collections, self._trail)
        self._audit = HeadAudit(self._collections, self._trail, self._effects)
        self._migrator = Migrator(client, self._collections.database)

    async def plan_schema(self, placement: Placement = ANYWHERE) -> list[SchemaStep]:
        with translated():
            return await self._migrator.plan(placement)

    async def ensure_schema(
        self, placement: Placement = ANYWHERE, *, allow_destructive: bool = False
    ) -> list[SchemaStep]:
        with translated():
            return await self._migrator.apply(placement, allow_destructive=allow_destructive)

    async def check(self) -> None:
        with translated():
            found = await self._migrator.version()
        if found is None or found < SCHEMA_VERSION:
            lack = (
                "has no schema yet" if found is None else f"has schema version {found}, not {SCHEMA_VERSION}"
            )
            raise ChatError(Code.STORAGE_UNAVAILABLE, f"The database {lack}: run `chatctl schema apply`")

    async def aclose(self) -> None:
        await self._audit.aclose()
        await self._trail.aclose()
        await close(self._client)


async def open_mongo(url: str) -> MongoStore:
    """Raises ChatError(INVALID_FIELD | STORAGE_UNAVAILABLE)."""
    client = connect(url)
    try:
        with translated():
            about = await client.admin.command("isMaster")  # its old name is understood by all
    except BaseException:
        await close(client)
        raise
    if "setName" not in about and about.get("msg") != "isdbgrid":
        # A single server cannot repeat writes. The driver tries to, and lays the first failure at the door of a
        # connection that it has just opened: all are closed anew, so others fail, and they do the same, for minutes.
        await close(client)
        client = connect(url, retry_writes=False)
    return MongoStore(client)
