"""Opening SQLite files: how each connection is set up, and what is refused before anything runs on it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.errors import is_busy, translate
from chatkernel.storage.sql.turnstile import Turnstile
from chatkernel.storage.sql.wal import has_damaged_commits

SQLITE_VERSION_MIN = (3, 40, 0)
CACHE_KIB = 16 * 1024
"""Pages that each connection keeps."""
CHECKPOINT_PAGES = 16_000
"""The log is folded into the file at about 62 MiB: pages that many commits touch are then written once. A message of
one of many channels touches five pages that no other of its group does; at a quarter of this nearly each of them was
written twice, which cost a tenth more."""
WAL_KEEP_BYTES = 64 * 1024 * 1024
STATEMENTS_CACHED = 512
CHECK_MAX_BYTES = 32 * 1024 * 1024
"""Files up to this size are checked page by page when opened; larger ones would delay the start."""
SETUP_WAIT_S = 5.0

REPAIR = (
    "Restore it from a backup; or, with everything stopped, save what can still be read:"
    " sqlite3 DAMAGED.db .recover | sqlite3 NEW.db; or move it away to begin anew"
)
LOG_DAMAGED = (
    "the log of the last commits is damaged. Restore {path} and its log from a backup; or copy both and go on"
    ' without the commits behind the damage: sqlite3 {path} "PRAGMA wal_checkpoint(TRUNCATE)"'
)


def check_version() -> None:
    """Raises ChatError(STORAGE_UNAVAILABLE) if Python was built with an SQLite that is too old."""
    found = sqlite3.sqlite_version_info
    if found < SQLITE_VERSION_MIN:
        has, needs = (".".join(map(str, version)) for version in (found, SQLITE_VERSION_MIN))
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"This Python has SQLite {has}, and {needs} or later is needed: use a newer build of Python",
        )


def sqlite_engine(url: URL) -> Engine:
    """An engine whose connections are set up, and whose transactions the runner begins and ends itself."""
    engine = create_engine(
        url.set(drivername="sqlite"),
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        # Errors are logged with their cause, which must not hold texts or password hashes.
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": 0, "cached_statements": STATEMENTS_CACHED},
    )

    @event.listens_for(engine, "connect")
    def _set_up(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        for pragma in (
            "synchronous = FULL",
            "foreign_keys = ON",
            # Many-row statements keep an undo journal: in memory, not in a file of its own.
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {WAL_KEEP_BYTES}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def parse_sqlite_url(text: str) -> tuple[URL, Path]:
    """Raises ChatError(INVALID_FIELD) with what is wrong."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ChatError(Code.INVALID_FIELD, "store_url: not a URL", field="store_url") from error
    # One with a URL in it is two stores by mistake, and would be shown with the other's password.
    if not url.database or url.database == ":memory:" or "://" in url.database:
        raise ChatError(
            Code.INVALID_FIELD, "store_url: name a file, as in sqlite:////var/lib/chat.db", field="store_url"
        )
    return url, Path(url.database)


def open_file(engine: Engine, path: Path) -> Turnstile:
    """Make the file a WAL database, or refuse it. Several processes may do this at once.

    Raises ChatError(STORAGE_UNAVAILABLE | STORAGE_DAMAGED) naming the file and what to do.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChatError(Code.STORAGE_UNAVAILABLE, f"{path.parent}: {error.strerror}") from error
    turnstile = Turnstile(path.with_name(path.name + "-turn"))
    try:
        # Before anybody has touched it: SQLite would forget the commits behind the damage, and write over them.
        if turnstile.is_first() and has_damaged_commits(path):
            raise ChatError(Code.STORAGE_DAMAGED, f"{path}-wal: {LOG_DAMAGED.format(path=path)}")
        turnstile.opened()
        _prepare_file(engine, path)
    except BaseException:
        turnstile.close()
        raise
    return turnstile


def _prepare_file(engine: Engine, path: Path) -> None:
    deadline = time.monotonic() + SETUP_WAIT_S
    while True:
        try:
            with engine.connect() as conn:
                _prepare(conn, path)
        except SQLAlchemyError as error:
            # Changing to WAL needs the file alone for a moment, and SQLite does not wait for it.
            if is_busy(error) and time.monotonic() < deadline:
                time.sleep(0.01)
                continue
            shown = translate(error)
            if shown.code is Code.STORAGE_DAMAGED:
                raise _damaged(path) from error
            raise ChatError(shown.code, f"{path}: {shown.detail}") from error
        return


def _prepare(conn: Connection, path: Path) -> None:
    mode = conn.exec_driver_sql("PRAGMA journal_mode = WAL").scalar_one()
    if mode != "wal":
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"{path}: this file system cannot hold a database that is shared ({mode})",
        )
    _refuse_read_only(conn)
    if path.stat().st_size > CHECK_MAX_BYTES:
        return
    found = conn.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if found != "ok":
        raise _damaged(path)


def _damaged(path: Path) -> ChatError:
    detail = f"{path}: the database file is damaged, or is no database. {REPAIR}"
    return ChatError(Code.STORAGE_DAMAGED, detail)


def _refuse_read_only(conn: Connection) -> None:
    """SQLite opens a file that it may not write for reading, and says so to the first writer."""
    try:
        conn.exec_driver_sql("BEGIN IMMEDIATE")
    except SQLAlchemyError as error:
        if not is_busy(error):  # somebody else writes, so it can be written
            raise
        return
    try:
        # Even this begins as a reader; the first change is what is refused. It is undone before it is anywhere.
        conn.exec_driver_sql("PRAGMA user_version = 0")
    finally:
        conn.exec_driver_sql("ROLLBACK")
