"""What asyncpg raises: what is known after it, and as errors of the catalogue.

asyncpg itself is not imported: who stays with SQLite need not load it. Its errors carry the server's `sqlstate`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatkernel.errors import ChatError, Code, StoreRefuses

RETRY_AFTER_S = 1.0
"""What is told to a sender whom no connection is left for."""

_REFUSED = "23"
"""The class of violated constraints."""
_AGAIN = {"40001", "40P01"}
"""Serialisation failure and deadlock: the server has undone it because of others, and asks for another try."""
_GONE_CLASS = "08"
_GONE = {"57P01", "57P02", "57P03", "57P05", "25P03"}
"""The server is stopping or starting, has lost a process, or ends what is idle."""
_STUCK = {"55P03", "57014"}
"""Time-outs of a lock and of a statement."""
_DAMAGED = {"XX001", "XX002"}
_SENTENCES = {
    "28": "The database refuses our credentials",
    "3D": "There is no such database",
    "25006": "The database is read-only",
    "42501": "The database does not let this user do what is needed",
    "42P01": "The database has no tables yet: run `chatctl schema apply`",
    "55P03": "The database stayed locked by somebody else",
    "57014": "The database took too long",
}
_REFUSES = ("28", "3D", "42501")
"""It lets nobody in as us, or what we name is not there, or not ours to use."""


class OutcomeUnknown(Exception):
    """The connection was lost when the commit was under way: whoever needs to know asks the store. The cause is
    the driver's error."""


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error behind SQLAlchemy's, or the error itself."""
    while isinstance(error, DBAPIError | OutcomeUnknown):
        inner = error.orig if isinstance(error, DBAPIError) else error.__cause__
        if inner is None:
            break
        error = inner
    # Between SQLAlchemy's error and asyncpg's stands an adapter's, whose cause it is.
    if type(error).__module__.startswith("sqlalchemy.dialects.") and error.__cause__ is not None:
        return error.__cause__
    return error


def sqlstate(error: BaseException) -> str | None:
    found = getattr(driver_error(error), "sqlstate", None)
    return found if isinstance(found, str) else None


def is_refusal(error: BaseException) -> bool:
    """Whether a constraint refused it."""
    return (sqlstate(error) or "").startswith(_REFUSED)


def asks_again(error: BaseException) -> bool:
    """Whether it was undone and may simply be tried again."""
    return sqlstate(error) in _AGAIN


def is_gone(error: BaseException) -> bool:
    """Whether the connection, or the server behind it, is gone."""
    state = sqlstate(error)
    if state is not None:
        return state in _GONE or state.startswith(_GONE_CLASS)
    cause = driver_error(error)
    return isinstance(cause, OSError | EOFError) or type(cause).__module__.startswith("asyncpg.")


def is_stuck(error: BaseException) -> bool:
    """Whether it waited in vain for somebody else: on a primary that was replaced and does not know, for a commit
    that never ends."""
    return sqlstate(error) in _STUCK


def is_database_error(error: BaseException) -> bool:
    return isinstance(error, DBAPIError | PoolTimeout | OutcomeUnknown | OSError) or type(
        error
    ).__module__.startswith("asyncpg.")


def translate(error: BaseException) -> ChatError:
    """The caller raises it `from error`. The sentence names the kind of fault: no value, no host, no user."""
    if isinstance(error, PoolTimeout):
        return ChatError(Code.BUSY, "All connections to the database are in use", retry_after_s=RETRY_AFTER_S)
    state = sqlstate(error)
    if state == "53100":
        return ChatError(Code.STORAGE_FULL)
    if state in _DAMAGED:
        return ChatError(Code.STORAGE_DAMAGED, "The database finds a table or an index of its own damaged")
    if state == "53300":
        return ChatError(Code.BUSY, "The database takes no more connections", retry_after_s=RETRY_AFTER_S)
    sentence = None if state is None else _SENTENCES.get(state) or _SENTENCES.get(state[:2])
    if sentence is None:
        name = type(driver_error(error)).__name__
        sentence = f"The store does not answer ({name})"
    if state is not None and state.startswith(_REFUSES):
        return StoreRefuses(sentence)
    return ChatError(Code.STORAGE_UNAVAILABLE, sentence)


def hide_values(error: BaseException) -> None:
    """Take the values of rows out of an error, which will be logged: the server names them in its details, and
    SQLAlchemy copies its words."""
    cause: Any = driver_error(error)
    if getattr(cause, "sqlstate", None) is None:
        return
    # Not every one of asyncpg's errors has them.
    for name in ("detail", "hint", "internal_query", "query"):
        with suppress(AttributeError):
            setattr(cause, name, None)
    if isinstance(error, DBAPIError) and error.orig is not None:
        said = f"{type(cause).__name__}: {cause}"
        error.orig.args = (said,)
        error.args = (f"({type(error).__name__}) {said}",)
