"""The port Lifecycle on MongoDB: what retention and erasure remove, in bounded steps that may be cut off anywhere.

Deletes name the shard key. What is keyed by person is found by person and deleted by `_id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from pymongo import UpdateOne

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.erased import WRITTEN_KINDS, subject_digest, username_digest
from chatkernel.storage.model import Blanked, Expired, Keeping
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, item_of
from chatkernel.storage.mongo.effects import Effects
from chatkernel.storage.mongo.errors import translated
from chatkernel.storage.mongo.history import heads
from chatkernel.storage.mongo.membership import State
from chatkernel.storage.mongo.upserts import write_again
from chatkernel.storage.together import gathered
from chatkernel.storage.usernames import username_key

_MARKS = (
    "role",
    "joined_seq",
    "from_seq",
    "read_seq",
    "delivered_seq",
    "read_messages",
    "muted_until",
    "pinned",
)


class MongoLifecycle:
    _collections: Collections
    _effects: Effects

    async def kept_channels(self, after: str, limit: int) -> list[Keeping]:
        fields = {"retention_s": 1}
        with translated():
            found = self._collections.channels.find({"_id": {"$gt": after}}, fields).sort("_id", 1)
            return [Keeping(each["_id"], each.get("retention_s", 0)) async for each in found.limit(limit)]

    # --- retention --------------------------------------------------------------------------------------------

    async def expire(self, channel_id: str, before_id: int, limit: int) -> Expired:
        """The floor moves before anything is deleted; what a death in between left below it goes first."""
        with translated():
            channel = await self._collections.channels.find_one({"_id": channel_id})
            first = await self._collections.events.find_one(
                {"channel_id": channel_id}, {"message_id": 1}, sort=[("seq", 1)]
            )
            floor_seq = 0 if channel is None else channel.get("floor_seq", 0)
            if channel is None or first is None or first["message_id"] >= before_id:
                return Expired(floor_seq, 0, False)
            # A change that nobody has applied yet must not go with its event.
            await self._effects.heal(channel, changes_too=True)
            head = (await heads(self._collections, [channel_id]))[channel_id]
            await self._sweep(channel_id, floor_seq, head.seq)
            old = await self._old(channel_id, floor_seq, head.seq, before_id, limit)
            if not old:
                return Expired(floor_seq, 0, False)
            last = old[-1]
            messages = last["messages_before"] + (last["kind"] == EventKind.MESSAGE.value)
            await self._collections.channels.update_one(
                {"_id": channel_id, "floor_seq": {"$not": {"$gte": last["seq"]}}},
                {"$set": {"floor_seq": last["seq"], "floor_messages": messages}},
            )
            await self._sweep(channel_id, last["seq"], head.seq)
            return Expired(last["seq"], len(old), len(old) == limit)

    async def _old(
        self, channel_id: str, floor_seq: int, head_seq: int, before_id: int, limit: int
    ) -> list[Document]:
        """Nothing beyond this head, which stays: what has come since is kept until there is a later one."""
        fields = dict.fromkeys(("seq", "message_id", "messages_before", "kind"), 1)
        where = {"channel_id": channel_id, "seq": {"$gt": floor_seq, "$lte": head_seq}}
        oldest = self._collections.events.find(where, fields).sort("seq", 1).limit(limit)
        return list(takewhile(lambda each: each["message_id"] < before_id, await oldest.to_list()))

    async def _sweep(self, channel_id: str, floor_seq: int, head_seq: int) -> None:
        """Remove what is below the floor: what hangs on the messages first, for it is found by them."""
        events = self._collections.events
        where = {"channel_id": channel_id, "seq": {"$lte": floor_seq}}
        fields = {"seq": 1, "message_id": 1, "edit_seqs": 1, "text": 1}
        found = await events.find(where, fields).sort("seq", 1).to_list()
        if not found or (len(found) == 1 and found[0]["seq"] == head_seq and "text" not in found[0]):
            return
        texts = [seq for each in found for seq in each.get("edit_seqs", ())]
        if texts:
            await events.update_many(
                {"channel_id": channel_id, "seq": {"$in": texts}}, {"$unset": {"text": "", "metadata": ""}}
            )
        ids = {"$gte": found[0]["message_id"], "$lte": found[-1]["message_id"]}
        await self._collections.reactions.delete_many({"channel_id": channel_id, "message_id": ids})
        await events.delete_many({"channel_id": channel_id, "seq": {"$lte": floor_seq, "$ne": head_seq}})
        if floor_seq >= head_seq:
            await events.update_one(
                {"channel_id": channel_id, "seq": head_seq},
                {
                    "$set": {"deleted_seq": head_seq},
                    "$unset": {"text": "", "metadata": "", "edited_text": "", "reply_to": ""},
                },
            )

    # --- erasure: what a person wrote ------------------------------------------------------------------------

    async def wrote_in(self, user_id: str, channel_ids: Sequence[str]) -> list[str]:
        async def wrote(channel_id: str) -> bool:
            where = {"channel_id": channel_id, "sender_id": user_id, "kind": {"$in": list(WRITTEN_KINDS)}}
            return await self._collections.events.find_one(where, {"_id": 1}) is not None

        if not channel_ids:
            return []
        with translated():
            answers = await gathered([wrote(channel_id) for channel_id in channel_ids])
        return [channel_id for channel_id, did in zip(channel_ids, answers, strict=True) if did]

    async def blank(self, channel_id: str, user_id: str, after: str, limit: int) -> Blanked:
        events = self._collections.events
        with translated():
            fields = dict.fromkeys(("seq", "kind", "target_id", "client_msg_id"), 1)
            page = await self._sent(channel_id, user_id, after, limit, fields)
            found = [each for each in page if each["kind"] in WRITTEN_KINDS]
            seqs = {kind: [each["seq"] for each in found if each["kind"] == kind] for kind in WRITTEN_KINDS}
            # Deleted before its text goes: an edit of it that is applied late finds it so.
            here = {"channel_id": channel_id, "seq": {"$in": seqs["message"]}}
            if seqs["message"]:
                await events.update_many({**here, "deleted_seq": None}, {"$set": {"deleted_seq": 1}})
                await events.update_many(here, {"$unset": {"text": "", "metadata": "", "edited_text": ""}})
            if seqs["edit"]:
                await events.update_many(
                    {"channel_id": channel_id, "seq": {"$in": seqs["edit"]}},
                    {"$unset": {"text": "", "metadata": ""}},
                )
            if seqs["reaction"]:
                await events.update_many(
                    {"channel_id": channel_id, "seq": {"$in": seqs["reaction"]}},
                    {"$unset": {"emoji": "", "on": ""}},
                )
                targets = sorted({each["target_id"] for each in found if "target_id" in each})
                await self._collections.reactions.delete_many(
                    {"channel_id": channel_id, "message_id": {"$in": targets}, "user_id": user_id}
                )
        return Blanked(page[-1]["client_msg_id"] if page else after, len(found), len(page) == limit)

    async def sent(self, channel_id: str, user_id: str, after: str, limit: int) -> list[Event]:
        with translated():
            found = await self._sent(channel_id, user_id, after, limit, EVENT_FIELDS)
        return [item_of(each, None).event for each in found]

    async def _sent(
        self, channel_id: str, user_id: str, after: str, limit: int, fields: dict[str, bool | int]
    ) -> list[Document]:
        where = {"channel_id": channel_id, "sender_id": user_id, "client_msg_id": {"$gt": after}}
        found = self._collections.events.find(where, fields).sort("client_msg_id", 1).limit(limit)
        return await found.to_list()

    async def forget_marks(self, user_id: str) -> None:
        """What stays is that the membership has ended, and since which event."""
        gone = {"user_id": user_id, "state": {"$in": [State.LEFT.value, State.BANNED.value]}}
        with translated():
            ended = [each async for each in self._collections.memberships.find(gone, {"channel_id": 1})]
            for each in ended:
                await self._collections.memberships.update_one(
                    {"channel_id": each["channel_id"], **gone}, {"$unset": dict.fromkeys(_MARKS, "")}
                )

    # --- erasure: the account ---------------------------------------------------------------------------------

    async def lock_person(self, user_id: str) -> None:
        with translated():
            values = {"suspended": True, "password_hash": ""}
            await self._collections.users.update_one({"_id": user_id}, {"$set": values})
            await self._forget_tokens(user_id)

    async def forget_person(self, user_id: str, at: int) -> None:
        """The digests first, and the account before its claims: whoever dies in between finds the claims again by
        looking for this person's, and a name is never free for a moment."""
        claims = self._collections.claims
        with translated():
            held = await claims.find({"user_id": user_id}).to_list()
            for claim in held:
                kind, _, value = claim["_id"].partition(":")
                digest = (
                    username_digest(username_key(value))
                    if kind == "username"
                    else subject_digest(*value.partition("\n")[::2])
                )
                erased = UpdateOne({"_id": f"erased:{digest}"}, {"$set": {"at": at}}, upsert=True)
                await write_again(claims, [erased])
            await self._forget_tokens(user_id)
            devices = self._collections.devices
            for device_id in [each["_id"] async for each in devices.find({"user_id": user_id}, {"_id": 1})]:
                await devices.delete_one({"_id": device_id})
            await self._collections.settings.delete_one({"_id": user_id})
            pairs = self._collections.pairs
            for pair_id in [each["_id"] async for each in pairs.find({"people": user_id}, {"_id": 1})]:
                await pairs.delete_one({"_id": pair_id})
            await self._collections.users.delete_one({"_id": user_id})
            for claim in held:
                await claims.delete_one({"_id": claim["_id"], "user_id": user_id})

    async def _forget_tokens(self, user_id: str) -> None:
        devices = self._collections.devices.find({"user_id": user_id}, {"_id": 1})
        for device_id in [each["_id"] async for each in devices]:
            tokens = self._collections.refresh_tokens
            found = tokens.find({"device_id": device_id}, {"_id": 1})
            for token in [each["_id"] async for each in found]:
                await tokens.delete_one({"_id": token})
