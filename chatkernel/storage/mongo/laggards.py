"""Channels that do not know the end of their own log: whoever was to write it has died, or the store was restored
from a copy in which the logs are newer than the rest.

Heads are read of every channel with somebody connected, again and again. The first time that a process sees one, and
each time that it has moved without this process, the channel is compared with it, behind the reader's back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from pymongo import UpdateOne

from chatkernel.protocol import EventKind
from chatkernel.storage.model import Head
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, head_of

KNOWN_MAX = 50_000
"""Channels whose last comparison is remembered."""
AT_ONCE = 1_000

_FIELDS = dict.fromkeys(("head_seq", "members_seq", "pending_seq"), 1)


class Laggards:
    """Owns what is to be compared. `mend` raises PyMongoError."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._doubtful: dict[str, Head] = {}
        self._known: OrderedDict[str, int] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._doubtful)

    def seen(self, heads: Mapping[str, Head]) -> None:
        """Heads as the log has them."""
        for channel_id, head in heads.items():
            if self._known.get(channel_id, -1) < head.seq:
                self._doubtful[channel_id] = head

    def written(self, channel_id: str, seq: int) -> None:
        """The channel knows this head, or a later one."""
        self._known[channel_id] = max(seq, self._known.pop(channel_id, 0))
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def mend(self) -> None:
        """Those seen last come last: what is not compared after an error is seen again."""
        doubtful, self._doubtful = self._doubtful, {}
        names = list(doubtful)
        for start in range(0, len(names), AT_ONCE):
            await self._compare({name: doubtful[name] for name in names[start : start + AT_ONCE]})

    async def _compare(self, heads: Mapping[str, Head]) -> None:
        found = self._collections.channels.find({"_id": {"$in": list(heads)}}, _FIELDS)
        writes: list[UpdateOne] = []
        async for channel in found:
            head = heads[channel["_id"]]
            if channel["head_seq"] < head.seq:
                writes.append(await self._update(channel["_id"], head))
            if max(channel["members_seq"], channel.get("pending_seq", 0)) < head.members_seq:
                # The log has changes of membership that the channel was never told to expect.
                pending = {"$max": {"pending_seq": head.members_seq}}
                writes.append(UpdateOne({"_id": channel["_id"]}, pending))
        if writes:
            await self._collections.channels.bulk_write(writes, ordered=False)
        for channel_id, head in heads.items():
            self.written(channel_id, head.seq)

    async def _update(self, channel_id: str, head: Head) -> UpdateOne:
        """With the last message, and what its sender has read by sending it."""
        values: Document = {
            "head_seq": head.seq,
            "head_message_id": head.message_id,
            "head_messages": head.messages,
        }
        update: Document = {"$set": values}
        last = await self._collections.events.find_one(
            {"channel_id": channel_id, "listed": True, "kind": EventKind.MESSAGE.value},
            sort=[("message_id", -1)],
        )
        if last is not None:
            update["$max"] = {"message_seq": last["seq"]}
            await self._collections.memberships.update_one(
                {"channel_id": channel_id, "user_id": last["sender_id"], "read_seq": {"$lt": last["seq"]}},
                {
                    "$set": {"read_seq": last["seq"], "read_messages": head_of(last).messages},
                    "$max": {"delivered_seq": last["seq"]},
                },
            )
        return UpdateOne({"_id": channel_id, "head_seq": {"$lt": head.seq}}, update)
