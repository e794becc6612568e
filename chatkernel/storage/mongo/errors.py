"""What PyMongo raises, as errors of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from chatkernel.errors import ChatError, Code, StoreRefuses

DUPLICATE_KEY = 11000
WRITE_CONFLICT = 112
LOST_RACE = frozenset({DUPLICATE_KEY, WRITE_CONFLICT})
"""A plain insert against a unique key: somebody else was first. Servers differ in which of the two they say."""

_FULL = frozenset({14031})  # OutOfDiskSpace
_REFUSED = frozenset({13, 18, 8000})  # Unauthorized, AuthenticationFailed, and Atlas's word for it


def lost_race(error: PyMongoError) -> bool:
    """Whether a unique key refused a single write; nothing of it is stored."""
    return isinstance(error, DuplicateKeyError) or (
        isinstance(error, OperationFailure)
        and not isinstance(error, WriteConcernError | BulkWriteError)
        and error.code in LOST_RACE
    )


def lost_races(error: BulkWriteError) -> bool:
    """Whether nothing but unique keys refused writes of a bulk."""
    details = error.details
    codes = [each["code"] for each in details.get("writeErrors") or []]
    return bool(codes) and not details.get("writeConcernErrors") and LOST_RACE.issuperset(codes)


def _code(error: PyMongoError) -> int | None:
    """Of a bulk: what its writes were refused for."""
    if isinstance(error, BulkWriteError):
        codes = [int(each["code"]) for each in error.details.get("writeErrors") or []]
        return next((code for code in codes if code in _FULL), codes[0] if codes else None)
    return error.code if isinstance(error, OperationFailure) else None


def translate(error: PyMongoError) -> ChatError:
    """The caller raises it `from error`. The sentence names the kind of fault: no value, no host, no user."""
    code = _code(error)
    if code in _FULL:
        return ChatError(Code.STORAGE_FULL)
    if code in _REFUSED or isinstance(error, ConfigurationError):
        return StoreRefuses("The store refuses our credentials or settings")
    name = type(error).__name__ if code is None else f"{type(error).__name__} {code}"
    return ChatError(Code.STORAGE_UNAVAILABLE, f"The store does not answer ({name})")


@contextmanager
def translated() -> Iterator[None]:
    """`with translated():` raises ChatError from what the driver raised."""
    try:
        yield
    except PyMongoError as error:
        raise translate(error) from error
