"""SQLite: one file per data set, one thread for writing and two for reading in the pod's own process."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from bench.storage.calls import verify
from bench.storage.shape import Shape, Stream
from bench.storage.store import Measured, begin, kept, room_for
from chatkernel.storage.sql.append import _insert_events, _row

_BYTES_PER_EVENT = 700
_LOADING = (
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA synchronous = OFF",
    "PRAGMA cache_size = -2000000",
    "PRAGMA locking_mode = EXCLUSIVE",
)


class Sqlite(Measured):
    name = "sqlite"
    words = f"SQLite {sqlite3.sqlite_version}, WAL, synchronous=FULL, 16 MiB of page cache per connection"
    separate = False

    def __init__(self, cache: Path, shape: Shape) -> None:
        self._folder = kept(cache, self.name, [load, _follow, _row])
        self._shape = shape

    async def prepare(self, size: int) -> float:
        path = self._path(size)
        if path.exists():
            return 0.0
        room_for(self._folder, size, _BYTES_PER_EVENT)
        started, half = time.monotonic(), path.with_suffix(".half")
        _remove(half)
        await verify(f"sqlite:///{half}", self._shape, await load(half, self._shape, size))
        _remove(half, only_beside=True)
        half.rename(path)
        return time.monotonic() - started

    @contextmanager
    def copy(self, size: int) -> Iterator[str]:
        work = self._folder / "work.db"
        _remove(work)
        shutil.copyfile(self._path(size), work)
        try:
            yield f"sqlite:///{work}"
        finally:
            _remove(work)

    def disk_bytes(self, size: int) -> int:
        return self._path(size).stat().st_size

    def processes(self) -> Iterable[psutil.Process]:
        return []

    def close(self) -> None:
        pass

    def _path(self, size: int) -> Path:
        return self._folder / f"{size}.db"


async def load(path: Path, shape: Shape, size: int) -> Stream:
    """Tables as `ensure_schema` makes them, with their indexes in place; the triggers, which would look up a channel
    per event, come back at the end."""
    await begin(f"sqlite:///{path}", shape)
    stream = Stream(shape, size)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        for pragma in _LOADING:
            raw.execute(pragma)
        raw.execute("BEGIN")
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        marks = ", ".join("?" * _insert_events._width)
        columns = ", ".join(_insert_events._values)
        raw.executemany(
            f"INSERT INTO events ({columns}) VALUES ({marks})", (_row(event) for event in stream.events())
        )
        _follow(raw, shape, stream)
        for _, sql in triggers:
            raw.execute(sql)
        raw.execute("COMMIT")
        raw.execute("PRAGMA journal_mode = WAL")
    _remove(path, only_beside=True)
    return stream


def _follow(raw: sqlite3.Connection, shape: Shape, stream: Stream) -> None:
    """What the triggers and the adapter would have done."""
    pairs = list(zip(shape.ids, stream.states, strict=True))
    raw.executemany(
        "UPDATE channels SET head_seq = ?, head_message_id = ?, head_messages = ?, message_seq = ?"
        " WHERE channel_id = ?",
        [(state.seq, state.message_id, state.messages, state.message_seq, c) for c, state in pairs],
    )
    raw.executemany(
        "UPDATE memberships SET read_seq = ?, delivered_seq = ?, read_messages = ?"
        " WHERE channel_id = ? AND user_id = ?",
        [(seq, seq, messages, c, user) for c, state in pairs for user, (seq, messages) in state.read.items()],
    )
    raw.executemany(
        "INSERT INTO reactions (channel_id, message_id, emoji, user_id, seq, since_seq, active)"
        " VALUES (?, ?, ?, ?, ?, ?, 1)",
        ((r.channel_id, r.message_id, r.emoji, r.user_id, r.seq, r.seq) for r in stream.reactions),
    )


def _remove(path: Path, *, only_beside: bool = False) -> None:
    """The file, and those that SQLite and we put beside it."""
    for suffix in ("-wal", "-shm", "-journal", "-turn"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if not only_beside:
        path.unlink(missing_ok=True)
