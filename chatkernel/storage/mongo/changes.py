"""What edits, deletes, reactions and renames change: the message or the channel they are about.

Each is an idempotent update, guarded by the event's seq. That none is forgotten is the matter of `effects.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pymongo import UpdateOne

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.upserts import write_again

CHANGING_KINDS = frozenset(
    {EventKind.EDIT, EventKind.DELETE, EventKind.REACTION, EventKind.RENAME, EventKind.RETENTION}
)


class Changes:
    """Methods raise PyMongoError."""

    def __init__(self, collections: Collections) -> None:
        self._events, self._reactions = collections.events, collections.reactions
        self._channels = collections.channels

    async def apply(self, events: Sequence[Event]) -> None:
        """Events of one channel, in order: an edit and the delete of the same message may be neighbours. Reactions
        in a row are one write."""
        for kind, neighbours in groupby(events, lambda event: event.kind):
            if kind is EventKind.REACTION:
                await self._reacted(list(neighbours))
            else:
                for event in neighbours:
                    await self._apply(event)

    async def _apply(self, event: Event) -> None:
        match event.kind:
            case EventKind.EDIT:
                await self._edited(event)
            case EventKind.DELETE:
                await self._deleted(event)
            case EventKind.RENAME:
                await self._channels.update_one(
                    {"_id": event.channel_id, "name_seq": {"$not": {"$gte": event.seq}}},
                    {"$set": {"name": event.name or "", "name_seq": event.seq}},
                )
            case EventKind.RETENTION:
                await self._channels.update_one(
                    {"_id": event.channel_id, "retention_seq": {"$not": {"$gte": event.seq}}},
                    {"$set": {"retention_s": event.retention_s or 0, "retention_seq": event.seq}},
                )
            case _:
                pass

    async def _edited(self, event: Event) -> None:
        target = self._target(event)
        shown = {**target, "deleted_seq": None}
        newer = {**shown, "edit_seq": {"$not": {"$gte": event.seq}}}
        values = {"edited_text": event.text or "", "edited_at": event.created_at, "edit_seq": event.seq}
        # Which events hold texts of a message, for when it is deleted: noted first, and also when it is not shown.
        noted = await self._events.bulk_write(
            [
                UpdateOne(shown, {"$addToSet": {"edit_seqs": event.seq}}),
                UpdateOne(newer, {"$set": values}),
            ]
        )
        if not noted.matched_count and await self._events.find_one(target, {"_id": 1}):
            await self._forget_texts(event.channel_id, [event.seq])

    async def _deleted(self, event: Event) -> None:
        target = self._target(event)
        await self._events.update_one(
            {**target, "deleted_seq": None},
            {
                "$set": {"deleted_seq": event.seq},
                "$unset": {"text": "", "metadata": "", "edited_text": ""},
            },
        )
        # No edit is noted after this: it finds the message deleted, and forgets its own text.
        found = await self._events.find_one(target, {"edit_seqs": 1})
        if found is not None and found.get("edit_seqs"):
            await self._forget_texts(event.channel_id, found["edit_seqs"])

    async def _forget_texts(self, channel_id: str, seqs: list[int]) -> None:
        await self._events.update_many(
            {"channel_id": channel_id, "seq": {"$in": seqs}}, {"$unset": {"text": "", "metadata": ""}}
        )

    async def _reacted(self, events: Sequence[Event]) -> None:
        """A reaction that is not there is first put there as taken away: whoever comes next, with an older or a later
        word, finds a seq to compare with."""
        nothing = {"active": False, "seq": 0, "since_seq": 0}
        writes: list[UpdateOne] = []
        for event in events:
            if event.emoji is None or event.target_id is None:
                continue
            where: Document = {
                "channel_id": event.channel_id,
                "message_id": event.target_id,
                "emoji": event.emoji,
                "user_id": event.sender_id,
            }
            on, older = event.on is not False, {"$lt": event.seq}
            writes.append(UpdateOne(where, {"$setOnInsert": nothing}, upsert=True))
            if on:
                # Set and set again: it keeps its place in the order of reactions.
                again = {**where, "active": True, "seq": older}
                writes.append(UpdateOne(again, {"$set": {"seq": event.seq}}))
            values = {"active": on, "seq": event.seq, "since_seq": event.seq}
            writes.append(UpdateOne({**where, "seq": older}, {"$set": values}))
        if writes:
            await write_again(self._reactions, writes, ordered=True)

    def _target(self, event: Event) -> Document:
        return {
            "channel_id": event.channel_id,
            "listed": True,
            "message_id": event.target_id,
            "kind": EventKind.MESSAGE.value,
        }
