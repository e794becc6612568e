"""Heads of channels and what senders have read, written behind the log.

The log decides; these only make lists quick. So a message costs one insert, and what follows from it is written in
batches a little later. Every write is guarded by its seq, so the order in which pods write does not matter. Reads of
this process that lean on them wait until its own are written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import Head
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.laggards import Laggards

log = logging.getLogger(__name__)

WRITE_INTERVAL_S = 0.1
"""How long a head waits for others; how far lists of other pods trail at most while the store answers."""
RETRY_S = 1.0
PENDING_MAX = 50_000
"""Heads and marks that wait while the store does not answer. More are dropped: the next message of the channel writes
them."""


@dataclass(slots=True)
class _Read:
    """What a sender has read by sending."""

    seq: int
    messages: int


class Trail:
    """Owns what is not written yet."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._heads: dict[str, tuple[Head, int]] = {}
        self._reads: dict[tuple[str, str], _Read] = {}
        self._laggards = Laggards(collections)
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._failed = False

    def note(self, events: Sequence[Event], heads: Sequence[tuple[str, Head, int]]) -> None:
        """Events that are stored; of their channels the new head and the seq of the last message (0: none)."""
        for channel_id, head, message_seq in heads:
            known = self._heads.get(channel_id)
            if known is None or known[0].seq < head.seq:
                before = 0 if known is None else known[1]
                self._heads[channel_id] = (head, max(before, message_seq))
        for event in events:
            if event.kind is EventKind.MESSAGE:
                self._reads[event.channel_id, event.sender_id] = _Read(event.seq, event.messages_before + 1)
        if len(self._heads) + len(self._reads) > PENDING_MAX:
            self._heads.clear()
            self._reads.clear()
        self._begin()

    def seen(self, heads: Mapping[str, Head]) -> None:
        """Heads that were read from the log: a channel that lags behind, whoever left it so, is mended."""
        self._laggards.seen(heads)
        self._begin()

    def _begin(self) -> None:
        if self._task is None and (self._heads or self._reads or self._laggards):
            self._task = asyncio.create_task(self._run(), name="mongo-trail")

    async def settle(self) -> None:
        """Until what is noted so far is written. Raises PyMongoError."""
        if self._heads or self._reads or self._writing.locked():
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
        while self._heads or self._reads or self._laggards:
            await asyncio.sleep(RETRY_S if self._failed else WRITE_INTERVAL_S)
            try:
                await self._write()
                await self._laggards.mend()
                self._failed = False
            except PyMongoError as error:
                if not self._failed:
                    log.warning("heads of channels trail", extra={"error": type(error).__name__})
                self._failed = True
        self._task = None

    async def _write(self) -> None:
        async with self._writing:
            heads, self._heads = self._heads, {}
            reads, self._reads = self._reads, {}
            try:
                await asyncio.gather(self._write_heads(heads), self._write_reads(reads))
            except BaseException:
                # Newer ones may have come meanwhile.
                self._heads = {**heads, **self._heads}
                self._reads = {**reads, **self._reads}
                raise

    async def _write_heads(self, heads: dict[str, tuple[Head, int]]) -> None:
        writes = []
        for channel_id, (head, message_seq) in heads.items():
            values: dict[str, object] = {
                "$set": {
                    "head_seq": head.seq,
                    "head_message_id": head.message_id,
                    "head_messages": head.messages,
                }
            }
            if message_seq:
                values["$max"] = {"message_seq": message_seq}
            writes.append(UpdateOne({"_id": channel_id, "head_seq": {"$lt": head.seq}}, values))
        if writes:
            await self._collections.channels.bulk_write(writes, ordered=False)
        for channel_id, (head, _) in heads.items():
            self._laggards.written(channel_id, head.seq)

    async def _write_reads(self, reads: dict[tuple[str, str], _Read]) -> None:
        writes = [
            UpdateOne(
                {"channel_id": channel_id, "user_id": user_id, "read_seq": {"$lt": read.seq}},
                {
                    "$set": {"read_seq": read.seq, "read_messages": read.messages},
                    "$max": {"delivered_seq": read.seq},
                },
            )
            for (channel_id, user_id), read in reads.items()
        ]
        if writes:
            await self._collections.memberships.bulk_write(writes, ordered=False)
