"""Heads of channels and what senders have read, written behind the log.

The log decides; these only make lists quick. So a message costs one insert, and what follows from it is written in
batches a little later. All of it only grows with seq and is written by `$max`, so neither the order in which pods
write nor a write that is repeated matters. Reads of this process see what is not written yet (`View`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, head_after

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.1
"""How long a head waits for others; how far lists of other pods trail at most while the store answers."""
RETRY_S = 1.0
PENDING_MAX = 50_000
"""Channels and marks that wait while the store does not answer. More are dropped: readers find the channels behind
(`head_audit.py`), and what they still announce (`effects.py`)."""

Values = dict[str, int]
"""By name of a field that only grows."""


@dataclass(slots=True)
class _Pending:
    channels: dict[str, Values] = field(default_factory=dict)
    reads: dict[tuple[str, str], Values] = field(default_factory=dict)
    """What a sender has read by sending."""
    applied: dict[str, set[str]] = field(default_factory=dict)
    """Names that the channel need not announce any more."""

    def __len__(self) -> int:
        return len(self.channels) + len(self.reads) + len(self.applied)

    def add(self, event: Event) -> None:
        head = head_after(event)
        values = {"head_seq": head.seq, "head_message_id": head.message_id, "head_messages": head.messages}
        if event.kind is EventKind.MESSAGE:
            values["message_seq"] = event.seq
            read = {"read_seq": event.seq, "read_messages": head.messages, "delivered_seq": event.seq}
            _raise(self.reads.setdefault((event.channel_id, event.sender_id), {}), read)
        _raise(self.channels.setdefault(event.channel_id, {}), values)

    def merge(self, other: _Pending) -> None:
        for channel_id, values in other.channels.items():
            _raise(self.channels.setdefault(channel_id, {}), values)
        for key, values in other.reads.items():
            _raise(self.reads.setdefault(key, {}), values)
        for channel_id, names in other.applied.items():
            self.applied.setdefault(channel_id, set()).update(names)

    def channel_writes(self) -> list[UpdateOne]:
        writes = []
        for channel_id in self.channels.keys() | self.applied.keys():
            update: Document = {}
            if values := self.channels.get(channel_id):
                update["$max"] = values
            if names := self.applied.get(channel_id):
                update["$pull"] = {"announced": {"$in": sorted(names)}}
            writes.append(UpdateOne({"_id": channel_id}, update))
        return writes

    def read_writes(self) -> list[UpdateOne]:
        """Who left and came back meanwhile has read nothing yet."""
        return [
            UpdateOne(
                {
                    "channel_id": channel_id,
                    "user_id": user_id,
                    "joined_seq": {"$lt": values["read_seq"]},
                },
                {"$max": values},
            )
            for (channel_id, user_id), values in self.reads.items()
        ]


def _raise(document: Document, values: Values) -> None:
    for name, value in values.items():
        if document.get(name, 0) < value:
            document[name] = value


class View:
    """What was not written when it was taken. Taken before a read and laid over what that read finds: a write that
    ends meanwhile is then in one of the two."""

    def __init__(self, parts: Sequence[_Pending]) -> None:
        self._parts = parts

    def channel(self, found: Document) -> Document:
        for part in self._parts:
            _raise(found, part.channels.get(found["_id"], {}))
        return found

    def membership(self, found: Document) -> Document:
        for part in self._parts:
            values = part.reads.get((found["channel_id"], found["user_id"]))
            if values is not None and found["joined_seq"] < values["read_seq"]:
                _raise(found, values)
        return found


class Trail:
    """Owns what is not written yet."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._pending, self._on_its_way = _Pending(), _Pending()
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._failed = False

    def note(self, events: Sequence[Event]) -> None:
        """Events that are stored."""
        for event in events:
            self._pending.add(event)
        self._begin()

    def retire(self, channel_id: str, names: Sequence[str]) -> None:
        """What the channel announces and is done."""
        if names:
            self._pending.applied.setdefault(channel_id, set()).update(names)
            self._begin()

    def view(self) -> View:
        return View((self._on_its_way, self._pending))

    def _begin(self) -> None:
        if len(self._pending) > PENDING_MAX:
            self._pending = _Pending()
        if self._task is None and self._pending:
            self._task = asyncio.create_task(self._run(), name="mongo-trail")

    async def settle(self) -> None:
        """Until what is noted so far is written. Raises PyMongoError."""
        if self._pending or self._writing.locked():
            await self._write()

    async def aclose(self) -> None:
        """One last try."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        try:
            await self.settle()
        except PyMongoError as error:
            log.warning("heads of channels not written", extra={"error": type(error).__name__})

    async def _run(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(RETRY_S if self._failed else WRITE_INTERVAL_S)
                try:
                    await self._write()
                    self._failed = False
                except PyMongoError as error:
                    if not self._failed:
                        log.warning("heads of channels trail", extra={"error": type(error).__name__})
                    self._failed = True
        finally:
            self._task = None

    async def _write(self) -> None:
        async with self._writing:
            batch, self._pending = self._pending, _Pending()
            self._on_its_way = batch
            try:
                await asyncio.gather(self._write_channels(batch), self._write_reads(batch))
            except BaseException:
                self._pending.merge(batch)
                raise
            finally:
                self._on_its_way = _Pending()

    async def _write_channels(self, batch: _Pending) -> None:
        if writes := batch.channel_writes():
            await self._collections.channels.bulk_write(writes, ordered=False)

    async def _write_reads(self, batch: _Pending) -> None:
        if writes := batch.read_writes():
            await self._collections.memberships.bulk_write(writes, ordered=False)
