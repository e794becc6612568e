"""The SQL store as one object, and how it is opened."""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection, insert, inspect, select, update

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.accounts import SqlAccounts
from chatkernel.storage.sql.conversations import SqlConversations
from chatkernel.storage.sql.devices import SqlDevices
from chatkernel.storage.sql.engine import check_version, parse_sqlite_url, prepare_file, sqlite_engine
from chatkernel.storage.sql.event_log import SqlEventLog
from chatkernel.storage.sql.people import SqlPeople
from chatkernel.storage.sql.runner import LOCK_WAIT_S, Runner, SqliteRunner
from chatkernel.storage.sql.schema import SCHEMA_VERSION, make_triggers, metadata, migrate, schema_version
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
            await self._db.write(_ensure)

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has this version's tables,
        ChatError(STORAGE_DAMAGED) once an operation has met damage: it does not go away by itself."""
        if self._db.damage is not None:
            raise ChatError(Code.STORAGE_DAMAGED, self._db.damage.detail)
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
    """Under the write lock: of several processes the first makes the tables, the others find them."""
    version = _version(conn)
    if version is None:
        metadata.create_all(conn)
        make_triggers(conn)
        conn.execute(insert(schema_version).values(one=1, version=SCHEMA_VERSION))
    else:
        _refuse_later(version)
        migrate(conn)
        make_triggers(conn)
        conn.execute(update(schema_version).values(version=SCHEMA_VERSION))


async def open_sql(url: str, *, lock_wait_s: float = LOCK_WAIT_S) -> SqlStore:
    """Open a store by its URL: `sqlite:///relative.db`, `sqlite:////absolute.db`. Tables are made by
    `ensure_schema`, not here. `lock_wait_s` is how long a write waits for other processes' writes.

    Raises ChatError(INVALID_FIELD) for a URL that cannot be meant, ChatError(STORAGE_DAMAGED) for a file that is
    damaged or no database, ChatError(STORAGE_UNAVAILABLE) for one that cannot be written, or if SQLite is too old.
    """
    check_version()
    parsed, path = parse_sqlite_url(url)
    engine = sqlite_engine(parsed)
    await asyncio.to_thread(prepare_file, engine, path)
    turnstile = Turnstile(path.with_name(path.name + "-turn"))
    return SqlStore(SqliteRunner(engine, turnstile, lock_wait_s))
