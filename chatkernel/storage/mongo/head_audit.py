"""Channels that do not know the end of their own log: the process that was to write it has died, or the store was
restored from a copy in which the logs are newer than the rest.

Whoever reads true heads has them compared here with what the channels say, a moment later and for many channels in
one read: live processes have written theirs by then. Only what is behind is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from pymongo.errors import PyMongoError

from chatkernel.protocol import MEMBERSHIP_KINDS, Event, EventKind
from chatkernel.storage.model import Head
from chatkernel.storage.mongo.changes import CHANGING_KINDS
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, channel_of, event_of, fresh
from chatkernel.storage.mongo.effects import Effects, announced
from chatkernel.storage.mongo.trailing import Trail
from chatkernel.storage.together import gathered

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""After a head was read: ten times what a live process needs to write it."""
KNOWN_MAX = 50_000
WAITING_MAX = 10_000
"""Channels that are compared in one go; what is more is left to the next who reads its head."""
REREAD_EVENTS = 200
"""Of a channel that is behind, the last events are read for its last message and what its senders have read; and
changes that it does not know of in parts of so many."""


class HeadAudit:
    """Owns what is to be compared, and how far channels were found to be."""

    def __init__(self, collections: Collections, trail: Trail, effects: Effects) -> None:
        self._collections, self._trail, self._effects = collections, trail, effects
        self._waiting: dict[str, Head] = {}
        self._known: OrderedDict[str, int] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def saw(self, heads: Mapping[str, Head]) -> None:
        """True heads."""
        for channel_id, head in heads.items():
            if head.seq > self._known.get(channel_id, 0) and len(self._waiting) < WAITING_MAX:
                self._waiting[channel_id] = head
        if self._waiting and self._task is None:
            self._task = asyncio.create_task(self._run(), name="mongo-head-audit")

    async def aclose(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GRACE_S)
                heads, self._waiting = self._waiting, {}
                try:
                    await self._compare(heads)
                except PyMongoError as error:
                    log.debug("heads not compared", extra={"error": type(error).__name__})
        finally:
            self._task = None

    async def _compare(self, heads: Mapping[str, Head]) -> None:
        fields = {"head_seq": 1, "members_seq": 1, "announced": 1}

        async def find(channel_ids: Iterable[str]) -> dict[str, Document]:
            wanted = {"_id": {"$in": list(channel_ids)}}
            return {each["_id"]: each async for each in self._collections.channels.find(wanted, fields)}

        found = await find(heads)
        missing = [channel_id for channel_id, head in heads.items() if channel_id not in found and head.seq]
        if missing:
            await gathered([self._make(channel_id) for channel_id in missing])
            found |= await find(missing)
        await gathered([self._catch_up(channel, heads[channel_id]) for channel_id, channel in found.items()])
        for channel_id, channel in found.items():
            self._known[channel_id] = max(channel["head_seq"], heads[channel_id].seq)
            self._known.move_to_end(channel_id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _make(self, channel_id: str) -> None:
        """A channel that only its log knows of: a copy of the store may have been made before it, and of its log
        after. Its members come with what the log says of them."""
        created = await self._collections.events.find_one({"channel_id": channel_id, "seq": 1}, EVENT_FIELDS)
        info = None if created is None else channel_of(created)
        if info is not None:
            wanted = {"_id": channel_id}
            await self._collections.channels.update_one(wanted, {"$setOnInsert": fresh(info)}, upsert=True)

    async def _catch_up(self, channel: Document, head: Head) -> None:
        behind = channel["head_seq"] < head.seq
        if behind:
            first = max(channel["head_seq"], head.seq - REREAD_EVENTS)
            self._trail.note(await self._events(channel["_id"], {"seq": {"$gt": first, "$lte": head.seq}}))
        expected = [each.seq for each in announced(channel) if each.of_membership]
        lacks_members = head.members_seq > max([channel["members_seq"], *expected])
        if lacks_members:
            await self._recall(channel, MEMBERSHIP_KINDS, channel["members_seq"], head)
        if behind:
            await self._recall(channel, CHANGING_KINDS, channel["head_seq"], head)

    async def _recall(self, channel: Document, kinds: frozenset[EventKind], after: int, head: Head) -> None:
        names = {"$in": [kind.value for kind in kinds]}
        while True:
            where: Document = {"kind": names, "seq": {"$gt": after, "$lte": head.seq}}
            events = await self._events(channel["_id"], where, REREAD_EVENTS)
            if events:
                await self._effects.recall(channel, events)
                after = events[-1].seq
            if len(events) < REREAD_EVENTS:
                return

    async def _events(self, channel_id: str, where: Document, limit: int = 0) -> list[Event]:
        found = self._collections.events.find({"channel_id": channel_id, **where}, EVENT_FIELDS)
        return [event_of(document) async for document in found.sort("seq", 1).limit(limit)]
