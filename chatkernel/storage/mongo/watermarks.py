"""Moving watermarks forward, and the unread counts that follow."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import UpdateOne

from chatkernel.storage.model import Head, Watermark, WatermarkState
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, head_of
from chatkernel.storage.mongo.history import heads
from chatkernel.storage.mongo.membership import State
from chatkernel.storage.mongo.together import gathered
from chatkernel.storage.mongo.trailing import View
from chatkernel.storage.standing import Key, Standing, move_all, states, to_count


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
    ends = await heads(collections, [document["channel_id"] for document in found])
    standing: dict[Key, Standing] = {}
    for each in found:
        head = ends.get(each["channel_id"], Head())
        standing[each["channel_id"], each["user_id"]] = Standing(
            each["read_seq"],
            each["delivered_seq"],
            each["read_messages"],
            each["from_seq"],
            head.seq,
            head.messages,
        )
    return standing


async def _count_read(collections: Collections, inside: dict[Key, Standing]) -> None:
    places = list(dict.fromkeys((key[0], found.read_seq) for key, found in inside.items()))

    async def messages_upto(channel_id: str, seq: int) -> int:
        document = await collections.events.find_one({"channel_id": channel_id, "seq": seq})
        return 0 if document is None else head_of(document).messages

    counts = dict(zip(places, await gathered([messages_upto(*place) for place in places]), strict=True))
    for key, found in inside.items():
        found.read_messages = counts[key[0], found.read_seq]
