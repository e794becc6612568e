"""The SQL store as one object, and how it is opened."""

from __future__ import annotations

import asyncio
from functools import partial

from sqlalchemy import Connection, insert, inspect, select, update

from chatkernel.errors import ChatError, Code
from chatkernel.storage.schema_step import ANYWHERE, Placement, SchemaStep, StepKind
from chatkernel.storage.sql.accounts import SqlAccounts
from chatkernel.storage.sql.conversations import SqlConversations
from chatkernel.storage.sql.devices import SqlDevices
from chatkernel.storage.sql.engine import check_version, parse_sqlite_url, prepare_file, sqlite_engine
from chatkernel.storage.sql.event_log import SqlEventLog
from chatkernel.storage.sql.people import SqlPeople
from chatkernel.storage.sql.planned import SqlStep, differences
from chatkernel.storage.sql.runner import LOCK_WAIT_S, Runner, SqliteRunner
from chatkernel.storage.sql.schema import SCHEMA_VERSION, make_triggers, metadata, migrate, schema_version
from chatkernel.storage.sql.turnstile import Turnstile


class SqlStore(SqlEventLog, SqlConversations, SqlAccounts, SqlDevices, SqlPeople):
    """EventLog, Conversations, Accounts, Devices and People on one database."""

    def __init__(self, db: Runner) -> None:
        self._db = db

    async def plan_schema(self, placement: Placement = ANYWHERE) -> list[SchemaStep]:
        """There are no shards here: `placement` is of no matter."""
        return [each.step for each in await self._db.read(_planned)]

    async def ensure_schema(
        self, placement: Placement = ANYWHERE, *, allow_destructive: bool = False
    ) -> list[SchemaStep]:
        """All in one transaction. Whoever finds nothing to do takes no lock."""
        if not any(_is_done(each.step, allow_destructive) for each in await self._db.read(_planned)):
            return []
        return await self._db.write(partial(_apply, allow_destructive=allow_destructive))

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has this version's tables."""
        found = await self._db.read(_version)
        if found is None or found < SCHEMA_VERSION:
            lack = "has no tables yet" if found is None else f"has version {found}, not {SCHEMA_VERSION}"
            raise ChatError(Code.STORAGE_UNAVAILABLE, f"The database {lack}: run `chatctl schema apply`")
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
            f"The database has version {version}, this software knows up to {SCHEMA_VERSION}: "
            "use the release that made it, or a newer one",
        )


def _planned(conn: Connection) -> list[SqlStep]:
    """Of a database that has another version's tables only that step: the rest shows after it."""
    version = _version(conn)
    if version is None:
        return [SqlStep(SchemaStep(StepKind.ADDS, f"make the tables of version {SCHEMA_VERSION}"), _make)]
    _refuse_later(version)
    if version < SCHEMA_VERSION:
        does = f"bring the tables from version {version} to {SCHEMA_VERSION}"
        return [SqlStep(SchemaStep(StepKind.ADDS, does), _bring_up)]
    return differences(conn)


def _apply(conn: Connection, *, allow_destructive: bool) -> list[SchemaStep]:
    """Under the write lock: of several processes the first makes the tables, the others find them."""
    done: list[SchemaStep] = []
    for _ in range(2):  # what earlier tables lack beside their version is seen when they are brought up
        for each in _planned(conn):
            if _is_done(each.step, allow_destructive):
                each.do(conn)
                done.append(each.step)
    return done


def _is_done(step: SchemaStep, allow_destructive: bool) -> bool:
    return step.kind is not StepKind.BY_HAND and (allow_destructive or not step.destructive)


def _make(conn: Connection) -> None:
    metadata.create_all(conn)
    make_triggers(conn)
    conn.execute(insert(schema_version).values(one=1, version=SCHEMA_VERSION))


def _bring_up(conn: Connection) -> None:
    migrate(conn)
    make_triggers(conn)
    conn.execute(update(schema_version).values(version=SCHEMA_VERSION))


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
