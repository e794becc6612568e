"""Heads that a process left behind: it stored events, and died before it wrote what trails them.

Whoever reads true heads has them compared here with what the channels say, a moment later and for many channels in
one read: live processes have written theirs by then. Only what is behind is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping

from pymongo.errors import PyMongoError

from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, event_of
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

    def __init__(self, collections: Collections, trail: Trail) -> None:
        self._collections, self._trail = collections, trail
        self._waiting: dict[str, int] = {}
        self._known: OrderedDict[str, int] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def saw(self, heads: Mapping[str, int]) -> None:
        """The seqs of true heads."""
        for channel_id, seq in heads.items():
            if seq > self._known.get(channel_id, 0) and len(self._waiting) < WAITING_MAX:
                self._waiting[channel_id] = max(seq, self._waiting.get(channel_id, 0))
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

    async def _compare(self, heads: Mapping[str, int]) -> None:
        wanted = {"_id": {"$in": list(heads)}}
        found = await self._collections.channels.find(wanted, {"head_seq": 1}).to_list()
        behind = [each for each in found if each["head_seq"] < heads[each["_id"]]]
        await gathered([self._catch_up(each["_id"], each["head_seq"], heads[each["_id"]]) for each in behind])
        for channel in found:
            channel_id = channel["_id"]
            self._known[channel_id] = max(channel["head_seq"], heads[channel_id])
            self._known.move_to_end(channel_id)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _catch_up(self, channel_id: str, after_seq: int, seq: int) -> None:
        first = max(after_seq, seq - REREAD_EVENTS)
        where = {"channel_id": channel_id, "seq": {"$gt": first, "$lte": seq}}
        found = self._collections.events.find(where, EVENT_FIELDS).sort("seq", 1)
        self._trail.note([event_of(document) async for document in found])
