"""Moving watermarks forward, and the unread counts that follow."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import UpdateOne

from chatkernel.storage.model import Head, Watermark, WatermarkState
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, head_of
from chatkernel.storage.mongo.history import heads
from chatkernel.storage.mongo.membership import State
from chatkernel.storage.mongo.trailing import View
from chatkernel.storage.standing import Key, Standing, move_all, states, to_count
from chatkernel.storage.together import gathered


async def put_watermarks(
    collections: Collections, watermarks: Sequence[Watermark], pending: View
) -> list[WatermarkState | None]:
    """The log's own heads are the bound. Others may move the same watermark meanwhile: each of the three numbers only
    grows."""
    keys: list[Key] = list(dict.fromkeys((mark.channel_id, mark.user_id) for mark in watermarks))
    standing = await _read(collections, keys, pending)
    moved = move_all(standing, watermarks)
    await _count_read(collections, to_count(standing))
    writes = [
        UpdateOne(
            {"channel_id": channel_id, "user_id": user_id},
            {
                "$max": {
                    "read_seq": found.read_seq,
                    "read_messages": found.read_messages,
                    "delivered_seq": found.delivered_seq,
                }
            },
        )
        for (channel_id, user_id), found in standing.items()
        if found.moved
    ]
    if writes:
        await collections.memberships.bulk_write(writes, ordered=False)
    return states(standing, watermarks, moved)


async def _read(collections: Collections, keys: Sequence[Key], pending: View) -> dict[Key, Standing]:
    by_channel: dict[str, list[str]] = {}
    for channel_id, user_id in keys:
        by_channel.setdefault(channel_id, []).append(user_id)

    async def members(channel_id: str, user_ids: list[str]) -> list[Document]:
        where = {"channel_id": channel_id, "user_id": {"$in": user_ids}, "state": State.MEMBER.value}
        return await collections.memberships.find(where).to_list()

    pages = await gathered([members(*each) for each in by_channel.items()])
    found = [pending.membership(document) for page in pages for document in page]
    channel_ids = [document["channel_id"] for document in found]
    ends, floors = await heads(collections, channel_ids), await _floors(collections, channel_ids)
    standing: dict[Key, Standing] = {}
    for each in found:
        head = ends.get(each["channel_id"], Head())
        floor_seq, floor_messages = floors.get(each["channel_id"], (0, 0))
        standing[each["channel_id"], each["user_id"]] = Standing(
            each["read_seq"],
            each["delivered_seq"],
            max(each["read_messages"], floor_messages),
            max(each["from_seq"], floor_seq),
            head.seq,
            head.messages,
        )
    return standing


async def _floors(collections: Collections, channel_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of channels of which retention has removed something: what is gone is not unread, and cannot be counted."""
    wanted = {"_id": {"$in": list(dict.fromkeys(channel_ids))}, "floor_seq": {"$gt": 0}}
    found = collections.channels.find(wanted, {"floor_seq": 1, "floor_messages": 1})
    return {each["_id"]: (each["floor_seq"], each["floor_messages"]) async for each in found}


async def _count_read(collections: Collections, inside: dict[Key, Standing]) -> None:
    places = list(dict.fromkeys((key[0], found.read_seq) for key, found in inside.items()))

    async def messages_upto(channel_id: str, seq: int) -> int | None:
        document = await collections.events.find_one({"channel_id": channel_id, "seq": seq})
        return None if document is None else head_of(document).messages

    counts = dict(zip(places, await gathered([messages_upto(*place) for place in places]), strict=True))
    for key, found in inside.items():
        count = counts[key[0], found.read_seq]
        if count is not None:  # else retention has just removed it, and the floor counts it
            found.read_messages = count
