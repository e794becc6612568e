"""The SQL store as one object, and how it is opened."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, inspect, select

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.accounts import SqlAccounts
from chatkernel.storage.sql.conversations import SqlConversations
from chatkernel.storage.sql.devices import SqlDevices
from chatkernel.storage.sql.event_log import SqlEventLog
from chatkernel.storage.sql.people import SqlPeople
from chatkernel.storage.sql.postgres_url import parse_postgres_url
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import SCHEMA_VERSION, schema_version
from chatkernel.storage.sql.sqlite_engine import check_version, parse_sqlite_url, prepare_file, sqlite_engine
from chatkernel.storage.sql.sqlite_runner import LOCK_WAIT_S, SqliteRunner
from chatkernel.storage.sql.turnstile import Turnstile


class SqlStore(SqlEventLog, SqlConversations, SqlAccounts, SqlDevices, SqlPeople):
    """EventLog, Conversations, Accounts, Devices and People on one database."""

    def __init__(self, db: Runner) -> None:
        self._db = db

    async def ensure_schema(self) -> None:
        """Make what is missing; idempotent, and several processes may do it at once.

        Raises ChatError(STORAGE_UNAVAILABLE) when the store is of a later version of this software.
        """
        if await self._db.read(_version) != SCHEMA_VERSION:
            await self._db.migrate(_ensure)

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has this version's tables."""
        found = await self._db.read(_version)
        if found is None or found < SCHEMA_VERSION:
            lack = "has no tables yet" if found is None else f"has version {found}, not {SCHEMA_VERSION}"
            raise ChatError(Code.STORAGE_UNAVAILABLE, f"The database {lack}: ensure_schema was not run")
        _refuse_later(found)

    async def aclose(self) -> None:
        """What was submitted is finished first."""
        await self._db.aclose()


def _version(conn: Connection) -> int | None:
    if not inspect(conn).has_table(schema_version.name):
        return None
    found: int | None = conn.execute(select(schema_version.c.version)).scalar()
    return found


def _refuse_later(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"The database has version {version}, this software knows up to {SCHEMA_VERSION}: update it",
        )


def _ensure(conn: Connection) -> None:
    """One process at a time: the first makes or changes the tables, the others find them."""
    version = _version(conn)
    if version is not None:
        _refuse_later(version)
        if version == SCHEMA_VERSION:
            return
    # Late: pods only check.
    from chatkernel.storage.sql.migrations import upgrade

    reached = upgrade(conn, version or 0)
    conn.execute(schema_version.delete())
    conn.execute(schema_version.insert().values(one=1, version=reached))


async def open_sql(url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> SqlStore:
    """Open a store by its URL: `sqlite:///relative.db`, `sqlite:////absolute.db`. Tables are made by
    `ensure_schema`, not here. `lock_wait_s` is how long a write waits for other processes' writes.

    Raises ChatError(INVALID_FIELD) for a URL that cannot be meant, ChatError(STORAGE_UNAVAILABLE) for a file that
    is damaged, is no database or cannot be written, or if SQLite itself is too old.
    """
    check_version()
    parsed, path = parse_sqlite_url(url)
    engine = sqlite_engine(parsed)
    await asyncio.to_thread(prepare_file, engine, path)
    turnstile = Turnstile(path.with_name(path.name + "-turn"))
    return SqlStore(SqliteRunner(engine, turnstile, lock_wait_s))


async def open_postgres(url: str) -> SqlStore:
    """Open a store by its URL: `postgresql://user:password@host,other:5433/chat?sslmode=verify-full&pool_size=8`.

    Of several hosts the one that is the primary is used. Nothing is connected yet, so that a database that is away
    is told by the first call, and later calls find it again.

    Raises ChatError(INVALID_FIELD) for a URL that cannot be meant.
    """
    urls, options = parse_postgres_url(url)
    # Late: who stays with SQLite need not load the driver.
    from chatkernel.storage.sql.postgres_engine import Servers, postgres_engine
    from chatkernel.storage.sql.postgres_runner import PostgresRunner

    servers = Servers(urls, options)
    return SqlStore(PostgresRunner(postgres_engine(servers, options), servers, options))
