"""What membership events change: who is in a channel, and with which role.

The store has no transactions here, so each event is applied in idempotent steps, guarded by its seq, and the
channel's `members_seq` moves last: it says up to where everything is applied. Before such an event is inserted the
channel notes that one may come (`pending_seq`); whoever reads a grant and finds more pending than applied applies
what the log has. An event is built only by whoever has read its grant as of the change before (`Appender._allowed`),
so no two different changes of a channel are ever applied at once, only the same one twice.

A membership stays when its person goes (`state`), with the seq of the last change, so that an old change that is
applied late changes nothing.
"""

from __future__ import annotations

from enum import StrEnum

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from chatkernel.protocol import MEMBERSHIP_KINDS, Event, EventKind, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, channel_of, event_of
from chatkernel.storage.mongo.errors import lost_race


class State(StrEnum):
    MEMBER = "member"
    LEFT = "left"
    BANNED = "banned"


class Membership:
    """Applies membership events to `channels` and `memberships`. Methods raise PyMongoError."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def announce(self, channel_id: str, seq: int, channel: ChannelInfo | None) -> None:
        """Before the event is inserted: it may come."""
        update: Document = {"$max": {"pending_seq": seq}}
        if channel is not None:
            update["$setOnInsert"] = {
                "kind": channel.kind.value,
                "name": channel.name,
                "history_from_start": channel.history_from_start,
                "created_at": 0,
                "members_seq": 0,
                "member_count": 0,
                "head_seq": 0,
                "head_message_id": 0,
                "head_messages": 0,
                "message_seq": 0,
            }
            await insert_or_update(self._collections.channels, {"_id": channel_id}, update)
        else:
            await self._collections.channels.update_one({"_id": channel_id}, update)

    async def apply(self, event: Event, channel: ChannelInfo | None) -> None:
        match event.kind:
            case EventKind.CREATED:
                await self._created(event, channel)
            case EventKind.JOIN:
                await self._joined(event)
            case EventKind.LEAVE | EventKind.BAN:
                state = State.BANNED if event.kind is EventKind.BAN else State.LEFT
                await self._gone(event, state)
            case EventKind.ROLE:
                await self._role(event)
            case _:
                pass
        await self._applied(event)

    async def heal(self, channel: Document) -> bool:
        """Apply what the log has and the channel has not; whether there was anything to do."""
        channel_id, pending, applied = channel["_id"], channel.get("pending_seq", 0), channel["members_seq"]
        if pending <= applied:
            return False
        wanted = {
            "channel_id": channel_id,
            "seq": {"$gt": applied},
            "kind": {"$in": [kind.value for kind in MEMBERSHIP_KINDS]},
        }
        found = await self._collections.events.find(wanted, EVENT_FIELDS).sort("seq", 1).to_list()
        for document in found:
            await self.apply(event_of(document), channel_of(document))
        if not found and await self._collections.events.find_one(
            {"channel_id": channel_id, "seq": pending}, {"_id": 1}
        ):
            # Its place was taken by another event: nothing is pending any more.
            await self._collections.channels.update_one(
                {"_id": channel_id, "pending_seq": pending}, {"$set": {"pending_seq": applied}}
            )
        return bool(found)

    async def _created(self, event: Event, channel: ChannelInfo | None) -> None:
        if channel is not None:
            await self._collections.channels.update_one(
                {"_id": event.channel_id, "members_seq": {"$lt": event.seq}},
                {
                    "$set": {
                        "kind": channel.kind.value,
                        "name": channel.name,
                        "history_from_start": channel.history_from_start,
                        "created_at": event.created_at,
                    }
                },
            )
        # The two of a pair are equal; a group is its creator's.
        group = channel is not None and channel.kind is ChannelKind.GROUP
        for number, user_id in enumerate(dict.fromkeys(event.users or [event.sender_id])):
            read = event.seq if number == 0 else 0
            role = Role.OWNER if number == 0 and group else Role.MEMBER
            await self._enter(event, user_id, role, from_seq=0, read_seq=read, read_messages=0)

    async def _joined(self, event: Event) -> None:
        channel = await self._collections.channels.find_one(
            {"_id": event.channel_id}, {"history_from_start": 1}
        )
        from_start = channel is not None and channel["history_from_start"]
        from_seq, read_messages = (0, 0) if from_start else (event.seq - 1, event.messages_before)
        for user_id in dict.fromkeys(event.users or []):
            await self._enter(
                event,
                user_id,
                event.role or Role.MEMBER,
                from_seq=from_seq,
                read_seq=0,
                read_messages=read_messages,
            )

    async def _enter(
        self, event: Event, user_id: str, role: Role, *, from_seq: int, read_seq: int, read_messages: int
    ) -> None:
        """Who is in already stays as they are."""
        who = {"channel_id": event.channel_id, "user_id": user_id}
        values = {
            "state": State.MEMBER.value,
            "seq": event.seq,
            "role": role.value,
            "joined_seq": event.seq,
            "from_seq": from_seq,
            "read_seq": read_seq,
            "delivered_seq": read_seq,
            "read_messages": read_messages,
            "muted_until": 0,
            "pinned": False,
            "archived": False,
        }
        returned = await self._collections.memberships.update_one(
            {**who, "seq": {"$lt": event.seq}, "state": {"$ne": State.MEMBER.value}}, {"$set": values}
        )
        if not returned.matched_count:
            await insert_or_update(self._collections.memberships, who, {"$setOnInsert": values})

    async def _gone(self, event: Event, state: State) -> None:
        for user_id in dict.fromkeys(event.users or []):
            who = {"channel_id": event.channel_id, "user_id": user_id}
            values = {"state": state.value, "seq": event.seq}
            gone = await self._collections.memberships.update_one(
                {**who, "seq": {"$lt": event.seq}}, {"$set": values}
            )
            if not gone.matched_count and state is State.BANNED:
                fresh = {"$setOnInsert": {**values, "archived": False}}
                await insert_or_update(self._collections.memberships, who, fresh)

    async def _role(self, event: Event) -> None:
        role, users = event.role or Role.MEMBER, event.users or []
        memberships = self._collections.memberships
        given = False
        for user_id in dict.fromkeys(users):
            who = {"channel_id": event.channel_id, "user_id": user_id, "state": State.MEMBER.value}
            await memberships.update_one(
                {**who, "seq": {"$lt": event.seq}}, {"$set": {"role": role.value, "seq": event.seq}}
            )
            # By now or by an attempt before this one.
            given |= await memberships.find_one({**who, "seq": event.seq}, {"_id": 1}) is not None
        if role is Role.OWNER and given and event.sender_id not in users:
            # A group has one owner: who hands it over stays as an admin.
            await memberships.update_one(
                {
                    "channel_id": event.channel_id,
                    "user_id": event.sender_id,
                    "role": Role.OWNER.value,
                    "seq": {"$lt": event.seq},
                },
                {"$set": {"role": Role.ADMIN.value, "seq": event.seq}},
            )

    async def _applied(self, event: Event) -> None:
        count = await self._collections.memberships.count_documents(
            {"channel_id": event.channel_id, "state": State.MEMBER.value}
        )
        values = {"members_seq": event.seq, "member_count": count}
        await self._collections.channels.update_one(
            {"_id": event.channel_id, "members_seq": {"$lt": event.seq}}, {"$set": values}
        )


async def insert_or_update(collection: AsyncCollection[Document], where: Document, update: Document) -> None:
    """An upsert. Of two that insert at once one wins, and the other finds its document at the second try."""
    for attempt in (1, 2):
        try:
            await collection.update_one(where, update, upsert=True)
        except PyMongoError as error:
            if attempt == 2 or not lost_race(error):
                raise
        else:
            return
