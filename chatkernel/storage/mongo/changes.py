"""What edits, deletes, reactions and renames change: the message or the channel they are about.

Each is an idempotent update, guarded by the event's seq. If the process dies between the event and its update, the
sender has no `ack` and sends again, and a device that syncs reads the event: both apply it once more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from chatkernel.ids import NowMs, now_ms
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.membership import insert_or_update

CHANGING_KINDS = frozenset(
    {EventKind.EDIT, EventKind.DELETE, EventKind.REACTION, EventKind.RENAME, EventKind.RETENTION}
)


RECENT_MS = 600_000
"""How old a change may be that a reader makes sure of: whoever stored it has long applied it, or has died."""
APPLIED_MAX = 10_000


class Changes:
    """Owns the note of what this process has applied. Methods raise PyMongoError."""

    def __init__(self, collections: Collections, now: NowMs = now_ms) -> None:
        self._events, self._reactions = collections.events, collections.reactions
        self._channels, self._now = collections.channels, now
        self._applied: OrderedDict[tuple[str, int], None] = OrderedDict()

    async def make_sure(self, events: Iterable[Event]) -> None:
        """Apply what was read and is recent, once in this process."""
        since = self._now() - RECENT_MS
        for event in events:
            if (
                event.kind in CHANGING_KINDS
                and event.created_at > since
                and (event.channel_id, event.seq) not in self._applied
            ):
                await self.apply(event)

    async def apply(self, event: Event) -> None:
        await self._apply(event)
        self._applied[event.channel_id, event.seq] = None
        if len(self._applied) > APPLIED_MAX:
            self._applied.popitem(last=False)

    async def _apply(self, event: Event) -> None:
        match event.kind:
            case EventKind.EDIT:
                await self._edited(event)
            case EventKind.DELETE:
                await self._deleted(event)
            case EventKind.REACTION:
                await self._reacted(event)
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
        # Which events hold texts of a message, for when it is deleted: noted first, and also when it is not shown.
        noted = await self._events.update_one(
            {**target, "deleted_seq": None}, {"$addToSet": {"edit_seqs": event.seq}}
        )
        if not noted.matched_count:
            if await self._events.find_one(target, {"_id": 1}):
                await self._forget_texts(event.channel_id, [event.seq])
            return
        await self._events.update_one(
            {**target, "deleted_seq": None, "edit_seq": {"$not": {"$gte": event.seq}}},
            {"$set": {"edited_text": event.text or "", "edited_at": event.created_at, "edit_seq": event.seq}},
        )

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

    async def _reacted(self, event: Event) -> None:
        if event.emoji is None or event.target_id is None:
            return
        where: Document = {
            "channel_id": event.channel_id,
            "message_id": event.target_id,
            "emoji": event.emoji,
            "user_id": event.sender_id,
        }
        on, older = event.on is not False, {"$lt": event.seq}
        if on:
            # Set and set again: it keeps its place in the order of reactions.
            again = await self._reactions.update_one(
                {**where, "active": True, "seq": older}, {"$set": {"seq": event.seq}}
            )
            if again.matched_count:
                return
        values = {"active": on, "seq": event.seq, "since_seq": event.seq}
        changed = await self._reactions.update_one({**where, "seq": older}, {"$set": values})
        if not changed.matched_count:
            await insert_or_update(self._reactions, where, {"$setOnInsert": values})

    def _target(self, event: Event) -> Document:
        return {
            "channel_id": event.channel_id,
            "listed": True,
            "message_id": event.target_id,
            "kind": EventKind.MESSAGE.value,
        }
