"""What one deployment has stored: shared by the members of a replica set, so that a failover can be played."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from bson import Int64
from support.mongo.collection import Collection
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

FIRST_BATCH = 101
"""How many documents a first answer holds when the client does not say."""

Executed = dict[int, Document]
"""Of one retryable write: which of its statements were executed, and with what result."""


@dataclass(slots=True)
class Store:
    """Databases, open cursors, and the retryable writes that were executed."""

    collections: dict[str, Collection] = field(default_factory=dict)
    _cursors: dict[int, tuple[str, list[Document]]] = field(default_factory=dict)
    _cursor_ids: Iterator[int] = field(default_factory=lambda: itertools.count(7_000_000_001))
    _executed: dict[bytes, tuple[int, Executed]] = field(default_factory=dict)

    def collection(self, namespace: str) -> Collection:
        """The collection, made when there is none yet."""
        return self.collections.setdefault(namespace, Collection(namespace))

    def documents(self, namespace: str) -> list[Document]:
        """What is stored, for a test to look at past the wire."""
        present = self.collections.get(namespace)
        return [] if present is None else list(present.documents.values())

    def names(self, database: str) -> list[str]:
        """The collections of a database."""
        prefix = database + "."
        return sorted(each.removeprefix(prefix) for each in self.collections if each.startswith(prefix))

    def executed(self, command: Document) -> Executed:
        """The statements of this retryable write that were executed before; for any other write, none.

        A session does one thing at a time, so its last number is all that is kept.
        """
        if "txnNumber" not in command:
            return {}
        session, number = bytes(command["lsid"]["id"]), int(command["txnNumber"])
        last, executed = self._executed.get(session, (-1, {}))
        if number < last:
            raise CommandError(
                ErrorCode.TRANSACTION_TOO_OLD, f"Retryable write with txnNumber {number} is too old"
            )
        if number > last:
            executed = {}
            self._executed[session] = (number, executed)
        return executed

    def cursor(self, namespace: str, documents: list[Document], command: Document) -> Document:
        """The answer to a find or an aggregation: the first batch, and a cursor for what is left."""
        options = command.get("cursor", command)
        size = int(options.get("batchSize", FIRST_BATCH))
        first, rest = documents[:size], documents[size:]
        cursor_id = 0
        if rest and not command.get("singleBatch"):
            cursor_id = next(self._cursor_ids)
            self._cursors[cursor_id] = (namespace, rest)
        return {"cursor": {"id": Int64(cursor_id), "ns": namespace, "firstBatch": first}, "ok": 1.0}

    def more(self, cursor_id: int, size: int | None) -> Document:
        """The next batch."""
        if cursor_id not in self._cursors:
            raise CommandError(ErrorCode.CURSOR_NOT_FOUND, f"cursor id {cursor_id} not found")
        namespace, documents = self._cursors.pop(cursor_id)
        batch, rest = documents[:size], documents[len(documents[:size]) :]
        if rest:
            self._cursors[cursor_id] = (namespace, rest)
        left = Int64(cursor_id if rest else 0)
        return {"cursor": {"id": left, "ns": namespace, "nextBatch": batch}, "ok": 1.0}

    def kill(self, cursor_ids: list[int]) -> Document:
        """Forget cursors."""
        killed = [each for each in cursor_ids if self._cursors.pop(each, None)]
        unknown = [each for each in cursor_ids if each not in killed]
        return {
            "cursorsKilled": killed,
            "cursorsNotFound": unknown,
            "cursorsAlive": [],
            "cursorsUnknown": [],
            "ok": 1.0,
        }
