"""Moving watermarks forward, and the unread counts that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymongo import UpdateOne

from chatkernel.storage.model import Head, Watermark, WatermarkState
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, head_of
from chatkernel.storage.mongo.history import heads
from chatkernel.storage.mongo.membership import State
from chatkernel.storage.mongo.together import gathered


@dataclass(slots=True)
class _Standing:
    """A membership's watermarks while a batch is applied."""

    read_seq: int
    delivered_seq: int
    read_messages: int
    from_seq: int
    head: Head
    moved: bool = False
    read_moved: bool = False

    def move(self, mark: Watermark) -> bool:
        """Forward only, not past the head; what was read was delivered. Whether anything moved."""
        read = max(self.read_seq, min(mark.read_seq, self.head.seq))
        delivered = max(self.delivered_seq, min(mark.delivered_seq, self.head.seq), read)
        if read == self.read_seq and delivered == self.delivered_seq:
            return False
        self.read_moved |= read != self.read_seq
        self.read_seq, self.delivered_seq, self.moved = read, delivered, True
        return True


_Key = tuple[str, str]


async def put_watermarks(
    collections: Collections, watermarks: Sequence[Watermark]
) -> list[WatermarkState | None]:
    """The log's own heads are the bound. Others may move the same watermark meanwhile: the update is forward only."""
    keys: list[_Key] = list(dict.fromkeys((mark.channel_id, mark.user_id) for mark in watermarks))
    standing = await _read(collections, keys)
    moved = [
        (found := standing.get((mark.channel_id, mark.user_id))) is not None and found.move(mark)
        for mark in watermarks
    ]
    await _count_read(collections, standing)
    writes = [
        UpdateOne(
            {"channel_id": channel_id, "user_id": user_id, "read_seq": {"$lte": found.read_seq}},
            {
                "$set": {"read_seq": found.read_seq, "read_messages": found.read_messages},
                "$max": {"delivered_seq": found.delivered_seq},
            },
        )
        for (channel_id, user_id), found in standing.items()
        if found.moved
    ]
    if writes:
        await collections.memberships.bulk_write(writes, ordered=False)
    return [_state(mark, standing, did) for mark, did in zip(watermarks, moved, strict=True)]


async def _read(collections: Collections, keys: Sequence[_Key]) -> dict[_Key, _Standing]:
    by_channel: dict[str, list[str]] = {}
    for channel_id, user_id in keys:
        by_channel.setdefault(channel_id, []).append(user_id)

    async def members(channel_id: str, user_ids: list[str]) -> list[Document]:
        where = {"channel_id": channel_id, "user_id": {"$in": user_ids}, "state": State.MEMBER.value}
        return await collections.memberships.find(where).to_list()

    pages = await gathered([members(*each) for each in by_channel.items()])
    found = [document for page in pages for document in page]
    ends = await heads(collections, [document["channel_id"] for document in found])
    return {
        (each["channel_id"], each["user_id"]): _Standing(
            each["read_seq"],
            each["delivered_seq"],
            each["read_messages"],
            each["from_seq"],
            ends.get(each["channel_id"], Head()),
        )
        for each in found
    }


async def _count_read(collections: Collections, standing: dict[_Key, _Standing]) -> None:
    """Messages up to the new marks: known at the head, else read from the event there."""
    inside: dict[_Key, _Standing] = {}
    for key, found in standing.items():
        if not found.read_moved:
            continue
        if found.read_seq == found.head.seq:
            found.read_messages = found.head.messages
        elif found.read_seq > found.from_seq:
            inside[key] = found
    places = list(dict.fromkeys((key[0], found.read_seq) for key, found in inside.items()))

    async def messages_upto(channel_id: str, seq: int) -> int:
        document = await collections.events.find_one({"channel_id": channel_id, "seq": seq})
        return 0 if document is None else head_of(document).messages

    counts = dict(zip(places, await gathered([messages_upto(*place) for place in places]), strict=True))
    for key, found in inside.items():
        found.read_messages = counts[key[0], found.read_seq]


def _state(mark: Watermark, standing: dict[_Key, _Standing], moved: bool) -> WatermarkState | None:
    found = standing.get((mark.channel_id, mark.user_id))
    if found is None:
        return None
    unread = found.head.messages - found.read_messages
    return WatermarkState(mark.channel_id, mark.user_id, found.read_seq, found.delivered_seq, unread, moved)
