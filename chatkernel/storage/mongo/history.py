"""Reading the log: heads, ranges for sync, and pages of history with the present state folded in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from chatkernel.errors import ChatError, Code
from chatkernel.message_ids import MAX_MESSAGE_ID, message_id_at
from chatkernel.protocol import Event, HistoryItem
from chatkernel.storage.model import EventRange, Head, HistoryPage, PageQuery, SendKey
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, event_of, head_of, item_of
from chatkernel.storage.together import gathered

_END = MAX_MESSAGE_ID + 1
_HEAD_FIELDS = dict.fromkeys(("channel_id", "seq", "message_id", "messages_before", "kind", "members_seq"), 1)
_NOT_A_REPLICA_SET = 123
KEYS_AT_ONCE = 100
"""Alternatives of one query."""


async def heads(collections: Collections, channel_ids: Sequence[str]) -> dict[str, Head]:
    """One look at the end of an index each."""
    wanted = list(dict.fromkeys(channel_ids))
    answers = await gathered([_head(collections, channel_id) for channel_id in wanted])
    return {channel_id: head for channel_id, head in zip(wanted, answers, strict=True) if head is not None}


async def _head(collections: Collections, channel_id: str) -> Head | None:
    found = await collections.events.find_one({"channel_id": channel_id}, _HEAD_FIELDS, sort=[("seq", -1)])
    return None if found is None else head_of(found)


async def find_sent(collections: Collections, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
    found: dict[SendKey, Event] = {}
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), KEYS_AT_ONCE):
        alternatives = [
            {"channel_id": key.channel_id, "sender_id": key.sender_id, "client_msg_id": key.client_msg_id}
            for key in distinct[start : start + KEYS_AT_ONCE]
        ]
        wanted: Document = {
            # Named beside the alternatives too, so that a router asks only these channels' shards.
            "channel_id": {"$in": sorted({each["channel_id"] for each in alternatives})},
            "$or": alternatives,
        }
        if len(alternatives) == 1:
            wanted = alternatives[0]  # nothing for the planner to choose
        async for document in collections.events.find(wanted, EVENT_FIELDS):
            event = event_of(document)
            found[SendKey(event.channel_id, event.sender_id, event.client_msg_id)] = event
    return found


async def message_ids(collections: Collections, places: Sequence[tuple[str, int]]) -> dict[str, int]:
    return await _ids_at(collections.events, places)


async def message_ids_now(collections: Collections, places: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Of a primary that makes sure first, with a majority, that it is one."""
    try:
        return await _ids_at(collections.events_as_of_now, places)
    except OperationFailure as error:
        if error.code != _NOT_A_REPLICA_SET:
            raise
        return await _ids_at(collections.events, places)  # a server alone: nobody can take its place


async def _ids_at(events: AsyncCollection[Document], places: Sequence[tuple[str, int]]) -> dict[str, int]:
    async def one(channel_id: str, seq: int) -> int | None:
        found = await events.find_one({"channel_id": channel_id, "seq": seq}, {"message_id": 1})
        return None if found is None else int(found["message_id"])

    answers = await gathered([one(*place) for place in places])
    return {place[0]: found for place, found in zip(places, answers, strict=True) if found is not None}


async def events_in(collections: Collections, ranges: Sequence[EventRange]) -> list[list[Event]]:
    distinct = list(dict.fromkeys(ranges))
    answers = await gathered([_range(collections, wanted) for wanted in distinct])
    by_range = dict(zip(distinct, answers, strict=True))
    return [by_range[wanted] for wanted in ranges]


async def _range(collections: Collections, wanted: EventRange) -> list[Event]:
    """The log is dense above its floor; a range may begin below."""
    seqs = {"$gt": wanted.after_seq}
    if wanted.upto_seq is not None:
        seqs["$lte"] = wanted.upto_seq
    where = {"channel_id": wanted.channel_id, "seq": seqs}
    # The first batch holds all: there is no second trip for the end of the cursor.
    cursor = collections.events.find(where, EVENT_FIELDS, batch_size=wanted.limit + 1)
    found = await cursor.sort("seq", 1).limit(wanted.limit).to_list()
    return [event_of(document) for document in found]


async def message(collections: Collections, channel_id: str, message_id: int) -> HistoryItem | None:
    found = await collections.events.find_one(
        {"channel_id": channel_id, "listed": True, "message_id": message_id}, EVENT_FIELDS
    )
    return None if found is None else (await fold(collections, channel_id, [found]))[0]


async def page(collections: Collections, query: PageQuery, primary: Collections) -> HistoryPage:
    """From `collections`, which may be behind. Raises ChatError(MESSAGE_NOT_FOUND) only by the primary's word."""
    try:
        return await _Pages(collections, query).read()
    except ChatError:
        return await _Pages(primary, query).read()


class _Pages:
    """Pages go by message id, which rises with seq and has the index; a bound by seq is looked up first."""

    def __init__(self, collections: Collections, query: PageQuery) -> None:
        self._collections, self._query = collections, query
        self._low_id = 0
        """Of the last event that is not theirs to see."""

    async def read(self) -> HistoryPage:
        query = self._query
        self._low_id = await self._first_id(query.from_seq + 1) - 1
        if query.before is not None:
            return await self._before(await self._first_id(query.before))
        if query.after is not None:
            return await self._from(await self._first_id(query.after + 1))
        if query.around is not None:
            return await self._around(query.around)
        if query.at is not None:
            at = await self._from(message_id_at(query.at))
            if at.items:
                return at
        return await self._before(_END)

    async def _first_id(self, seq: int) -> int:
        """The message id of the first event from that seq on (what stood there may have been removed by retention);
        behind the last _END."""
        if seq <= 1:
            return 1 if seq == 1 else 0
        found = await self._collections.events.find_one(
            {"channel_id": self._query.channel_id, "seq": {"$gte": seq}}, {"message_id": 1}, sort=[("seq", 1)]
        )
        return _END if found is None else int(found["message_id"])

    async def _before(self, before_id: int) -> HistoryPage:
        limit = self._query.limit
        found = await self._older(before_id, limit + 1)
        kept = found[:limit][::-1]
        after = before_id < _END and bool(await self._newer(before_id, 1))
        return HistoryPage(await self._fold(kept), len(found) > limit, after)

    async def _from(self, first_id: int) -> HistoryPage:
        limit = self._query.limit
        found = await self._newer(first_id, limit + 1)
        kept = found[:limit]
        before = bool(await self._older(kept[0]["message_id"] if kept else first_id, 1))
        return HistoryPage(await self._fold(kept), before, len(found) > limit)

    async def _around(self, message_id: int) -> HistoryPage:
        """Half of the page before the event, and it with what follows in the other half; at an end, more of the
        other side."""
        limit = self._query.limit
        if message_id <= self._low_id or not await self._collections.events.find_one(
            {"channel_id": self._query.channel_id, "listed": True, "message_id": message_id}, {"_id": 1}
        ):
            raise ChatError(Code.MESSAGE_NOT_FOUND)
        older, newer = await asyncio.gather(
            self._older(message_id, limit + 1), self._newer(message_id, limit + 1)
        )
        half = limit // 2
        old_count = min(len(older), max(half, limit - len(newer)))
        new_count = min(len(newer), limit - old_count)
        items = await self._fold(older[:old_count][::-1] + newer[:new_count])
        return HistoryPage(items, len(older) > old_count, len(newer) > new_count)

    async def _older(self, before_id: int, limit: int) -> list[Document]:
        """Newest first."""
        if before_id <= self._low_id + 1:
            return []
        return await self._read({"$gt": self._low_id, "$lt": before_id}, -1, limit)

    async def _newer(self, first_id: int, limit: int) -> list[Document]:
        return await self._read({"$gte": max(first_id, self._low_id + 1)}, 1, limit)

    async def _read(self, ids: dict[str, int], direction: int, limit: int) -> list[Document]:
        where = {"channel_id": self._query.channel_id, "listed": True, "message_id": ids}
        found = self._collections.events.find(where, EVENT_FIELDS, batch_size=limit + 1)
        return await found.sort("message_id", direction).limit(limit).to_list()

    async def _fold(self, found: list[Document]) -> list[HistoryItem]:
        return await fold(self._collections, self._query.channel_id, found)


async def fold(collections: Collections, channel_id: str, found: Sequence[Document]) -> list[HistoryItem]:
    """Documents of one channel, rising, as items with their reactions."""
    if not found:
        return []
    where = {
        "channel_id": channel_id,
        "message_id": {"$gte": found[0]["message_id"], "$lte": found[-1]["message_id"]},
        "active": True,
    }
    active = await collections.reactions.find(where).to_list()
    reactions: dict[int, dict[str, list[str]]] = {}
    for each in sorted(active, key=lambda one: one["since_seq"]):
        reactions.setdefault(each["message_id"], {}).setdefault(each["emoji"], []).append(each["user_id"])
    return [item_of(document, reactions.get(document["message_id"])) for document in found]
