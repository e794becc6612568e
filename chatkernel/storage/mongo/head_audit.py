"""Channels that do not know the end of their own log: the process that was to write it has died, or the store was
restored from a copy in which the logs are newer than the rest.

Whoever reads true heads has them compared here with what the channels say, a moment later and for many channels in
one read: live processes have written theirs by then. Only what is behind is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping

from pymongo.errors import PyMongoError

from chatkernel.protocol import Event
from chatkernel.storage.model import Head
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, event_of
from chatkernel.storage.mongo.effects import Effects, announced
from chatkernel.storage.mongo.together import gathered
from chatkernel.storage.mongo.trailing import Trail

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""After a head was read: ten times what a live process needs to write it."""
KNOWN_MAX = 50_000
WAITING_MAX = 10_000
"""Channels that are compared in one go; what is more is left to the next who reads its head."""
REREAD_EVENTS = 200
"""Of a channel that is behind, the last events are read for its last message and what its senders have read."""


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
        wanted = {"_id": {"$in": list(heads)}}
        fields = {"head_seq": 1, "members_seq": 1, "announced": 1}
        found = await self._collections.channels.find(wanted, fields).to_list()
        await gathered([self._catch_up(each, heads[each["_id"]]) for each in found])
        for channel in found:
            channel_id = channel["_id"]
            self._known[channel_id] = max(channel["head_seq"], heads[channel_id].seq)
            self._known.move_to_end(channel_id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _catch_up(self, channel: Document, head: Head) -> None:
        events: list[Event] = []
        if channel["head_seq"] < head.seq:
            first = max(channel["head_seq"], head.seq - REREAD_EVENTS)
            events = await self._events(channel["_id"], {"$gt": first, "$lte": head.seq})
            self._trail.note(events)
        expected = [each.seq for each in announced(channel) if each.of_membership]
        if head.members_seq > max([channel["members_seq"], *expected]):
            events = await self._changes_of_members(channel, head) + events
        if events:
            await self._effects.recall(channel, events)

    async def _events(self, channel_id: str, seqs: Document) -> list[Event]:
        where = {"channel_id": channel_id, "seq": seqs}
        found = self._collections.events.find(where, EVENT_FIELDS).sort("seq", 1)
        return [event_of(document) async for document in found]

    async def _changes_of_members(self, channel: Document, head: Head) -> list[Event]:
        """Each event says which change of members was the last: so they are found from the last one on."""
        found: list[Event] = []
        seq = head.members_seq
        while seq > channel["members_seq"] and len(found) < REREAD_EVENTS:
            there = await self._events(channel["_id"], {"$gte": seq - 1, "$lte": seq})
            found += there[-1:]
            seq = there[0].members_seq if len(there) == 2 else 0
        return found[::-1]
