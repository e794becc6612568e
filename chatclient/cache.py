"""What a device keeps on disk: cursors, unacked commands, and history it has seen, with which stretches are
whole.

A row of `ranges` says that all items of history with low ≤ seq ≤ high are in `items`. Live events and pages
both lengthen stretches; those that meet become one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import msgspec

from chatclient.errors import NotKept
from chatclient.history import fold, is_item
from chatclient.outbox import Command
from chatkernel.protocol import ClientFrame, Delete, Edit, Event, EventKind, HistoryItem, React, Send

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
  channel_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, message_id INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
  channel_id TEXT NOT NULL, seq INTEGER NOT NULL, message_id INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (channel_id, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_message ON items (channel_id, message_id);
CREATE TABLE IF NOT EXISTS ranges (
  channel_id TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
  PRIMARY KEY (channel_id, low)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
  n INTEGER PRIMARY KEY, channel_id TEXT NOT NULL, client_msg_id TEXT NOT NULL, body BLOB NOT NULL,
  UNIQUE (channel_id, client_msg_id));
"""

_encode = msgspec.msgpack.Encoder().encode
_decode_item = msgspec.msgpack.Decoder(HistoryItem).decode
_decode_command = msgspec.msgpack.Decoder(ClientFrame).decode


class Stretch(msgspec.Struct, frozen=True):
    """Items of history, rising by seq, and whether nothing older exists."""

    items: list[HistoryItem]
    low: int
    """Complete from here (0: from the beginning)."""


P = ParamSpec("P")


def _writing(method: Callable[P, None]) -> Callable[P, None]:
    """What cannot be written (a full disk, a lock) raises NotKept."""

    @wraps(method)
    def write(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except sqlite3.Error as error:
            raise NotKept(str(error)) from error

    return write


class Cache:
    """One device's file. Used from one thread; every method is a few small statements.

    Belongs to one user: opened by another, it starts empty.
    """

    @_writing
    def __init__(self, path: Path, user_id: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        if "message_id" not in {row[1] for row in self._db.execute("PRAGMA table_info(cursors)")}:
            self._db.execute("ALTER TABLE cursors ADD COLUMN message_id INTEGER NOT NULL DEFAULT 0")
        if self._meta("user_id") != user_id:
            with self._transaction():
                for table in ("cursors", "items", "ranges", "outbox"):
                    self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - names from above
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('user_id', ?)", (user_id,))

    def close(self) -> None:
        self._db.close()

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    # --- cursors and live events ---

    def cursors(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT channel_id, seq FROM cursors"))

    def message_ids(self) -> dict[str, int]:
        """Of the events where the cursors stand, where they are known."""
        return dict(self._db.execute("SELECT channel_id, message_id FROM cursors WHERE message_id > 0"))

    @_writing
    def keep(self, events: Sequence[Event], cursors: dict[str, int], gone: Iterable[str] = ()) -> None:
        """Events as they were handed on, and where that leaves the cursors: in one transaction, so that
        after a crash a device asks again for exactly what it has not kept."""
        with self._transaction():
            for channel_id in gone:
                self._forget(channel_id)
            for event in events:
                self._keep_event(event)
            for channel_id, low, high in _runs(events):
                # A stretch that ended at the old cursor touches this one, and the two become one.
                self._cover(channel_id, low, high)
            ids = {(event.channel_id, event.seq): event.message_id for event in events}
            self._db.executemany(
                "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)",
                [(name, seq, ids.get((name, seq), 0)) for name, seq in cursors.items()],
            )

    def _keep_event(self, event: Event) -> None:
        if is_item(event):
            self._put_item(event.channel_id, HistoryItem(event))
            return
        if event.kind is EventKind.ERASE:
            self._erase(event)
            return
        row = self._db.execute(
            "SELECT body FROM items WHERE channel_id = ? AND message_id = ?",
            (event.channel_id, event.target_id),
        ).fetchone()
        if row is not None:
            self._put_item(event.channel_id, fold(_decode_item(row[0]), event))

    def _erase(self, erasure: Event) -> None:
        """Every item of the channel may have something of the person."""
        kept = self._db.execute(
            "SELECT body FROM items WHERE channel_id = ?", (erasure.channel_id,)
        ).fetchall()
        for row in kept:
            item = _decode_item(row[0])
            folded = fold(item, erasure)
            if folded is not item:
                self._put_item(erasure.channel_id, folded)

    def _put_item(self, channel_id: str, item: HistoryItem) -> None:
        row = (channel_id, item.event.seq, item.event.message_id, _encode(item))
        self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", row)

    def _forget(self, channel_id: str) -> None:
        for table in ("cursors", "items", "ranges"):
            self._db.execute(f"DELETE FROM {table} WHERE channel_id = ?", (channel_id,))  # noqa: S608

    @_writing
    def drop_before(self, first_seqs: dict[str, int]) -> None:
        """Channel to its first seq: what is before it is not there to see any more."""
        with self._transaction():
            for where in first_seqs.items():
                self._db.execute("DELETE FROM items WHERE channel_id = ? AND seq < ?", where)
                self._db.execute("DELETE FROM ranges WHERE channel_id = ? AND high < ?", where)
                self._db.execute(
                    "UPDATE OR REPLACE ranges SET low = ?2 WHERE channel_id = ?1 AND low BETWEEN 1 AND ?2 - 1",
                    where,
                )

    # --- history ---

    @_writing
    def put_page(self, channel_id: str, items: Sequence[HistoryItem], low: int, high: int) -> None:
        """A page from the server that is complete for low ≤ seq ≤ high."""
        with self._transaction():
            for item in items:
                self._put_item(channel_id, item)
            self._cover(channel_id, low, high)

    def before(self, channel_id: str, before: int, limit: int) -> Stretch | None:
        """Up to `limit` items with seq < before, as far as we know them all; None when we know nothing
        there."""
        low = self._low_of(channel_id, before - 1)
        if low is None:
            return None
        rows = self._db.execute(
            "SELECT body FROM items WHERE channel_id = ? AND seq < ? AND seq >= ? ORDER BY seq DESC LIMIT ?",
            (channel_id, before, low, limit),
        ).fetchall()
        return Stretch([_decode_item(row[0]) for row in reversed(rows)], low)

    def _low_of(self, channel_id: str, seq: int) -> int | None:
        row = self._db.execute(
            "SELECT low FROM ranges WHERE channel_id = ? AND low <= ? AND high >= ?", (channel_id, seq, seq)
        ).fetchone()
        return None if row is None else int(row[0])

    def _cover(self, channel_id: str, low: int, high: int) -> None:
        """Adds a complete stretch; those that overlap or touch become one."""
        row = self._db.execute(
            "SELECT min(low), max(high) FROM ranges WHERE channel_id = ? AND low <= ? AND high >= ?",
            (channel_id, high + 1, low - 1),
        ).fetchone()
        if row[0] is not None:
            low, high = min(low, row[0]), max(high, row[1])
        self._db.execute(
            "DELETE FROM ranges WHERE channel_id = ? AND low >= ? AND high <= ?", (channel_id, low, high)
        )
        self._db.execute("INSERT OR REPLACE INTO ranges VALUES (?, ?, ?)", (channel_id, low, high))

    # --- outbox ---

    def outbox(self) -> list[Command]:
        """What was not acked when the device stopped, in the order of asking."""
        rows = self._db.execute("SELECT body FROM outbox ORDER BY n").fetchall()
        commands = [_decode_command(row[0]) for row in rows]
        return [command for command in commands if isinstance(command, Send | Edit | Delete | React)]

    @_writing
    def put_command(self, command: Command) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO outbox (channel_id, client_msg_id, body) VALUES (?, ?, ?)",
            (command.channel_id, command.client_msg_id, _encode(command)),
        )

    @_writing
    def drop_command(self, command: Command) -> None:
        self._db.execute(
            "DELETE FROM outbox WHERE channel_id = ? AND client_msg_id = ?",
            (command.channel_id, command.client_msg_id),
        )


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, _error: object, _traceback: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # SQLite may have rolled back by itself
                self._db.execute("ROLLBACK")


def _runs(events: Sequence[Event]) -> list[tuple[str, int, int]]:
    """The stretches of consecutive seqs: (channel, low, high)."""
    open_runs: dict[str, tuple[int, int]] = {}
    runs: list[tuple[str, int, int]] = []
    for event in events:
        low, high = open_runs.get(event.channel_id, (event.seq, event.seq))
        if event.seq > high + 1:
            runs.append((event.channel_id, low, high))
            low = event.seq
        open_runs[event.channel_id] = (low, event.seq)
    return runs + [(channel_id, low, high) for channel_id, (low, high) in open_runs.items()]
