"""Copies of an SQLite store, made while it is used, and put back while it is not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from chatkernel.errors import ChatError, Code
from chatkernel.storage.sql.schema import SCHEMA_VERSION
from chatkernel.storage.sql.sqlite_engine import LOG_DAMAGED
from chatkernel.storage.sql.turnstile import Turnstile
from chatkernel.storage.sql.wal import has_damaged_commits

ASIDE = ".replaced"
"""What is put behind the name of a store that was replaced."""
_BESIDE = ("-wal", "-shm", "")
"""A database is all of these together: a log beside another's file would spoil it."""


class Copied(Struct, frozen=True):
    path: str
    bytes: int
    schema_version: int
    events: int


def copy_out(source: Path, target: Path) -> Copied:
    """All that was committed when it began, in one file; writers go on meanwhile. All or nothing: `target` is there
    when it is whole and on disk. Blocking. Raises OSError, ChatError(STORAGE_UNAVAILABLE | STORAGE_DAMAGED)."""
    if not source.is_file():
        raise FileNotFoundError(2, "there is no such store", str(source))
    if target.exists():
        raise FileExistsError(17, "is there already: a backup is not overwritten", str(target))
    part = target.with_name(target.name + ".part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        try:
            with (
                _opened(source),
                closing(sqlite3.connect(source)) as db,
                closing(sqlite3.connect(part)) as copy,
            ):
                db.backup(copy)  # in one step: one snapshot, which a busy writer cannot make begin anew
                copy.execute("PRAGMA journal_mode = DELETE")  # one file alone
        except sqlite3.Error as error:
            raise ChatError(Code.STORAGE_UNAVAILABLE, f"{source}: {error}") from error
        examine(part)
        _sync(part)
        part.replace(target)
        _sync(target.parent)
        return examine(target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Within, SQLite may open this database. Raises ChatError(STORAGE_DAMAGED) where it would, as the only one that
    has it open, take damage in the log for its end, and delete the commits behind it."""
    turnstile = Turnstile(path.with_name(path.name + "-turn"))
    try:
        if turnstile.is_first() and has_damaged_commits(path):
            raise ChatError(Code.STORAGE_DAMAGED, f"{path}-wal: {LOG_DAMAGED.format(path=path)}")
        turnstile.opened()
        yield
    finally:
        turnstile.close()


def examine(path: Path) -> Copied:
    """What is in a copy. Raises OSError, and ChatError(STORAGE_UNAVAILABLE) for one that this release cannot use."""
    size = path.stat().st_size
    try:
        with closing(sqlite3.connect(f"file:{path.absolute()}?mode=ro&immutable=1", uri=True)) as db:
            state = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if state != "ok":
                raise ChatError(Code.STORAGE_UNAVAILABLE, f"{path}: the file is damaged")
            (version,) = db.execute("SELECT version FROM schema_version").fetchone()
            (events,) = db.execute("SELECT count(*) FROM events").fetchone()
    except sqlite3.Error as error:
        raise ChatError(Code.STORAGE_UNAVAILABLE, f"{path}: not a store of ours ({error})") from error
    if version > SCHEMA_VERSION:
        raise ChatError(
            Code.STORAGE_UNAVAILABLE,
            f"{path}: has version {version}, this software knows up to {SCHEMA_VERSION}: "
            "use the release that made it, or a newer one",
        )
    return Copied(str(path), size, version, events)


def put_back(copy: Path, target: Path) -> Copied:
    """Nobody may use `target` meanwhile. What was there stays beside it as `….replaced`, which an earlier one of that
    name gives way to. Blocking. Raises as `copy_out` does."""
    found = examine(copy)
    part = target.with_name(target.name + ".part")
    try:
        with closing(sqlite3.connect(f"file:{copy.absolute()}?mode=ro&immutable=1", uri=True)) as db:
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            with closing(sqlite3.connect(part)) as made:
                db.backup(made)
        _sync(part)
        _fold_in(target)
        for end in _BESIDE:
            _aside(target, end)
        part.replace(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise ChatError(Code.STORAGE_UNAVAILABLE, f"{copy}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return found


def _fold_in(path: Path) -> None:
    """The log into the file, so that it alone is the store: whatever stops us next, nothing of it is lost. A damaged
    one, for whose sake we may be here, stays as it is: SQLite would forget what is behind the damage."""
    if path.exists() and not has_damaged_commits(path):
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _aside(path: Path, end: str) -> None:
    """The file itself comes last, by being hard linked: until the copy takes its place it is there under its name."""
    there, kept = path.with_name(path.name + end), path.with_name(path.name + ASIDE + end)
    kept.unlink(missing_ok=True)
    if not there.exists():
        return
    if end:
        there.replace(kept)
    else:
        kept.hardlink_to(there)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
