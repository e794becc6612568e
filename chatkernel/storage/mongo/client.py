"""The one client of a process, and the collections with the concerns that promises need."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

from bson.codec_options import TypeDecoder, TypeRegistry
from bson.int64 import Int64
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from chatkernel.storage.mongo.cancelling import make_cancelling_safe
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.options import least_staleness_s, options_of, refused, why

OPERATION_TIMEOUT_MS = 5_000
"""Bounds every operation with all its retries, also against a server that stands still; `timeoutMS` in the URL
overrides it. Below the appender's deadline, so that an unknown outcome can still be asked for within it."""

POOL_MAX = 100
"""Connections of a process; `maxPoolSize` in the URL overrides it. Twice what sends hold while a shard of several is
away and each channel is tried by itself (`LET_GO_MAX` + 1 in chatkernel/pump.py, and the three `AT_ONCE` of
chatkernel/apart.py). What is tried together reads more at once, as does a batch with several messages of each
channel: then some wait for a connection, as long as `timeoutMS` at most."""

CONNECTING_MAX = 8
"""Connections that a process opens at the same time; `maxConnecting` in the URL overrides it. The driver's own 2 are
too few where reads are given up, each with its connection, while others wait for one."""

CLOSE_S = 1.0
"""A server that stands still is not waited for when a process ends."""

DEFAULT_DATABASE = "chat"


class _PlainInt(TypeDecoder):
    """The driver's own class of 64-bit numbers is for telling their width when written; ours are just numbers."""

    bson_type = Int64

    def transform_bson(self, value: Any) -> int:
        return int(value)


_REGISTRY = TypeRegistry([_PlainInt()])


def connect(url: str, *, retry_writes: bool = True) -> AsyncMongoClient[Document]:
    """A client of a mongodb:// or mongodb+srv:// URL, whose options (TLS, authMechanism, compressors, pool sizes)
    win over ours. It connects at first use. Raises ChatError(INVALID_FIELD); no value of the URL is in a message."""
    options = options_of(url)
    ours: dict[str, Any] = {"appname": "chatcluster", "type_registry": _REGISTRY}
    if "timeoutms" not in options:
        ours["timeoutMS"] = OPERATION_TIMEOUT_MS
    if "maxpoolsize" not in options:
        ours["maxPoolSize"] = max(POOL_MAX, options.get("minpoolsize", 0))
    if "maxconnecting" not in options:
        ours["maxConnecting"] = CONNECTING_MAX
    if "retrywrites" not in options:
        ours["retryWrites"] = retry_writes
    if options.get("readpreference", "primary") != "primary" and "maxstalenessseconds" not in options:
        # A page of history from a secondary is never older than somebody has agreed to.
        ours["maxStalenessSeconds"] = math.ceil(least_staleness_s(options))
    make_cancelling_safe()
    try:
        return AsyncMongoClient(url, connect=False, **ours)
    except (PyMongoError, ValueError, TypeError) as error:
        raise refused("an option does not go with the others (or a certificate with its key)") from error
    except OSError as error:
        raise refused(f"a file that an option names cannot be used ({why(error)})") from error


async def close(client: AsyncMongoClient[Document]) -> None:
    """Tell the server that sessions have ended, and go. The driver bounds neither by `timeoutMS`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await client.close()
            return
    await client.close()  # of what the server had to be told nothing is left


def database_of(client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
    """Majority writes, journaled; majority reads from the primary: nobody sees what a failover could take back."""
    return client.get_default_database(
        DEFAULT_DATABASE,
        write_concern=WriteConcern("majority", j=True),
        read_concern=ReadConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )


def history_of(client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
    """For pages of history alone, which decide nothing: where the URL's `readPreference` says (the primary, if it
    says nothing). `maxStalenessSeconds` bounds how old such a page may be."""
    return client.get_default_database(DEFAULT_DATABASE, read_concern=ReadConcern("majority"))


class Collections:
    """The collections of `schema.py` by name."""

    def __init__(self, database: AsyncDatabase[Document]) -> None:
        self.database = database
        self.events: AsyncCollection[Document] = database["events"]
        self.events_as_of_now = self.events.with_options(read_concern=ReadConcern("linearizable"))
        """For one event by a unique key: the primary answers when a majority has confirmed that it still is the
        primary, with all that was acked before. What is read with `majority` may be of one that was superseded."""
        self.channels: AsyncCollection[Document] = database["channels"]
        self.memberships: AsyncCollection[Document] = database["memberships"]
        self.reactions: AsyncCollection[Document] = database["reactions"]
        self.users: AsyncCollection[Document] = database["users"]
        self.claims: AsyncCollection[Document] = database["claims"]
        self.devices: AsyncCollection[Document] = database["devices"]
        self.refresh_tokens: AsyncCollection[Document] = database["refresh_tokens"]
        self.pairs: AsyncCollection[Document] = database["pairs"]
        self.settings: AsyncCollection[Document] = database["settings"]
        self.jobs: AsyncCollection[Document] = database["jobs"]
        self.job_chunks: AsyncCollection[Document] = database["job_chunks"]
