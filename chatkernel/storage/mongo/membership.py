"""What membership events change: who is in a channel, and with which role.

Each event is applied in idempotent steps, guarded by its seq, and the channel's `members_seq` moves last: it says up
to where everything is applied. That none is forgotten is the matter of `effects.py`. An event is built only by
whoever has read its grant as of the change before (`Appender._allowed`), so no two different changes of a channel are
ever applied at once, only the same one twice.

A membership stays when its person goes (`state`), with the seq of the last change, so that an old change that is
applied late changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from pymongo import UpdateOne

from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.upserts import write_again


class State(StrEnum):
    MEMBER = "member"
    LEFT = "left"
    BANNED = "banned"


class Membership:
    """Applies membership events to `channels` and `memberships`. Methods raise PyMongoError."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

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
        first, *others = dict.fromkeys(event.users or [event.sender_id])
        owner = _entered(event, Role.OWNER if group else Role.MEMBER, read_seq=event.seq)
        await self._enter(event, {first: owner, **dict.fromkeys(others, _entered(event, Role.MEMBER))})

    async def _joined(self, event: Event) -> None:
        channel = await self._collections.channels.find_one(
            {"_id": event.channel_id}, {"history_from_start": 1}
        )
        role = event.role or Role.MEMBER
        if channel is not None and channel["history_from_start"]:
            values = _entered(event, role)
        else:
            values = _entered(event, role, from_seq=event.seq - 1, read_messages=event.messages_before)
        await self._enter(event, dict.fromkeys(event.users or [], values))

    async def _enter(self, event: Event, people: Mapping[str, Document]) -> None:
        """Who is in already stays as they are."""
        who = {user_id: {"channel_id": event.channel_id, "user_id": user_id} for user_id in people}
        if event.seq > 1:
            back = {"seq": {"$lt": event.seq}, "state": {"$ne": State.MEMBER.value}}
            await self._write([UpdateOne({**who[each], **back}, {"$set": people[each]}) for each in people])
        await self._write([UpdateOne(who[u], {"$setOnInsert": people[u]}, upsert=True) for u in people])

    async def _gone(self, event: Event, state: State) -> None:
        people = {u: {"channel_id": event.channel_id, "user_id": u} for u in event.users or []}
        values = {"state": state.value, "seq": event.seq}
        older = {"seq": {"$lt": event.seq}}
        await self._write([UpdateOne({**who, **older}, {"$set": values}) for who in people.values()])
        if state is State.BANNED:  # also who was never in
            fresh = {"$setOnInsert": {**values, "archived": False}}
            await self._write([UpdateOne(who, fresh, upsert=True) for who in people.values()])

    async def _write(self, writes: Sequence[UpdateOne]) -> None:
        if writes:
            await write_again(self._collections.memberships, writes)

    async def _role(self, event: Event) -> None:
        role, users = event.role or Role.MEMBER, list(dict.fromkeys(event.users or []))
        memberships = self._collections.memberships
        theirs = {
            "channel_id": event.channel_id,
            "user_id": {"$in": users},
            "state": State.MEMBER.value,
        }
        await memberships.update_many(
            {**theirs, "seq": {"$lt": event.seq}}, {"$set": {"role": role.value, "seq": event.seq}}
        )
        # By now or by an attempt before this one.
        given = await memberships.find_one({**theirs, "seq": event.seq}, {"_id": 1}) is not None
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


def _entered(
    event: Event, role: Role, *, from_seq: int = 0, read_seq: int = 0, read_messages: int = 0
) -> Document:
    return {
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
