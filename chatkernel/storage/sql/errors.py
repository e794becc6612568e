"""What the database raises, as errors of the catalogue."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from chatkernel.errors import ChatError, Code

_MISSING_SCHEMA = "no such table"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRIMARY_CODE = 0xFF
"""The low byte of an extended SQLite result code is the code it extends."""


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code, if this error came from SQLite."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY_CODE


def is_busy(error: BaseException) -> bool:
    return sqlite_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def translate(error: SQLAlchemyError | sqlite3.Error) -> ChatError:
    """The caller raises it `from error`. The sentence names the kind of fault, never a value."""
    code = sqlite_code(error)
    if code == sqlite3.SQLITE_FULL:
        return ChatError(Code.STORAGE_FULL)
    if code in _DAMAGED:
        return ChatError(Code.STORAGE_UNAVAILABLE, "The database file is damaged or is not a database")
    if code == sqlite3.SQLITE_BUSY:
        return ChatError(Code.STORAGE_UNAVAILABLE, "The database stayed locked by another process")
    if _MISSING_SCHEMA in str(error):
        return ChatError(
            Code.STORAGE_UNAVAILABLE, "The database has no tables yet: run `chatctl schema apply`"
        )
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", type(error).__name__)
    return ChatError(Code.STORAGE_UNAVAILABLE, f"The store does not answer ({name})")
