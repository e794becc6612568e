"""The port Conversations on MongoDB: grants, members and a person's own view of a channel."""

from __future__ import annotations

from collections.abc import Sequence

from chatkernel.protocol import EventKind, HistoryItem, Role
from chatkernel.storage.list_cursor import cursor_of, parse_cursor
from chatkernel.storage.model import (
    OTHERS_SHOWN,
    Absence,
    ChannelKind,
    ChannelState,
    Conversation,
    ConversationPage,
    ConversationPrefs,
    Grant,
    Head,
    Member,
    Watermark,
    WatermarkState,
)
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, head_of
from chatkernel.storage.mongo.effects import Effects
from chatkernel.storage.mongo.errors import translated
from chatkernel.storage.mongo.head_audit import HeadAudit
from chatkernel.storage.mongo.history import fold
from chatkernel.storage.mongo.membership import State
from chatkernel.storage.mongo.trailing import Trail
from chatkernel.storage.mongo.watermarks import put_watermarks
from chatkernel.storage.together import gathered

_CHANNELS_AT_ONCE = 1_000
_COUNT_FIELDS: Document = dict.fromkeys(("member_count", "members_seq", "announced"), 1)
"""How many are in a channel, and what tells whether that is all."""
_NEWEST = 20
"""Events among which the last message is looked for, if it is not the newest."""


class MongoConversations:
    _collections: Collections
    _trail: Trail
    _effects: Effects
    _audit: HeadAudit

    async def grant(self, channel_id: str, user_id: str) -> Grant | Absence:
        """The channel first: what is read of the membership after it is as of that change or later."""
        with translated():
            channel = await self._settled_channel(channel_id)
            if channel is None:
                return Absence.NOT_MEMBER
            found = await self._collections.memberships.find_one(
                {"channel_id": channel_id, "user_id": user_id}
            )
        if found is None or found["state"] == State.LEFT:
            return Absence.NOT_MEMBER
        return Absence.BANNED if found["state"] == State.BANNED else _grant(found, channel)

    async def _settled_channel(self, channel_id: str) -> Document | None:
        """With every change of membership that the log has."""
        channel = await self._collections.channels.find_one({"_id": channel_id})
        if channel is not None and await self._effects.heal(channel):
            channel = await self._collections.channels.find_one({"_id": channel_id})
        return channel

    async def _settled_channels(
        self, channel_ids: Sequence[str], fields: Document | None = None
    ) -> dict[str, Document]:
        channels = await self._channels(channel_ids, fields)
        asked = list(channels.values())
        outcomes = await gathered([self._effects.heal(channel) for channel in asked])
        healed = [channel["_id"] for channel, did in zip(asked, outcomes, strict=True) if did]
        return channels | await self._channels(healed, fields) if healed else channels

    async def grants_of(self, user_ids: Sequence[str]) -> dict[str, list[Grant]]:
        """Memberships are read again after their channels, for the same reason as in `grant`."""
        wanted = {"user_id": {"$in": list(dict.fromkeys(user_ids))}, "state": State.MEMBER.value}
        answer: dict[str, list[Grant]] = {user_id: [] for user_id in user_ids}
        if not user_ids:
            return answer
        with translated():
            first = await self._collections.memberships.find(wanted, {"channel_id": 1}).to_list()
            channels = await self._settled_channels([each["channel_id"] for each in first])
            found = await self._collections.memberships.find(wanted).to_list()
            late = [each["channel_id"] for each in found if each["channel_id"] not in channels]
            if late:
                # They came in meanwhile; again the channel first. Who comes in now is the next reader's.
                channels |= await self._settled_channels(late)
                found = await self._collections.memberships.find(wanted).to_list()
        for each in found:
            if each["channel_id"] in channels:
                answer[each["user_id"]].append(_grant(each, channels[each["channel_id"]]))
        return answer

    async def _channels(
        self, channel_ids: Sequence[str], fields: Document | None = None
    ) -> dict[str, Document]:
        distinct = list(dict.fromkeys(channel_ids))
        found: dict[str, Document] = {}
        for start in range(0, len(distinct), _CHANNELS_AT_ONCE):
            some = {"_id": {"$in": distinct[start : start + _CHANNELS_AT_ONCE]}}
            async for channel in self._collections.channels.find(some, fields):
                found[channel["_id"]] = channel
        return found

    async def channels_of(self, user_ids: Sequence[str]) -> dict[str, set[str]]:
        answer: dict[str, set[str]] = {user_id: set() for user_id in user_ids}
        if answer:
            wanted = {"user_id": {"$in": list(answer)}, "state": State.MEMBER.value}
            fields = {"_id": 0, "user_id": 1, "channel_id": 1}
            with translated():
                for each in await self._collections.memberships.find(wanted, fields).to_list():
                    answer[each["user_id"]].add(each["channel_id"])
        return answer

    async def channel_counts(self, user_ids: Sequence[str]) -> dict[str, int]:
        distinct = list(dict.fromkeys(user_ids))

        async def count(user_id: str) -> int:
            where = {"user_id": user_id, "state": State.MEMBER.value}
            return await self._collections.memberships.count_documents(where)

        with translated():
            return dict(zip(distinct, await gathered([count(each) for each in distinct]), strict=True))

    async def channel(self, channel_id: str) -> ChannelState | None:
        pending = self._trail.view()
        with translated():
            found = await self._settled_channel(channel_id)
        if found is None or not found["members_seq"]:
            return None
        pending.channel(found)
        return ChannelState(
            channel_id,
            ChannelKind(found["kind"]),
            found["name"],
            found["history_from_start"],
            found["created_at"],
            _head(found),
            found["member_count"],
            found.get("retention_s", 0),
            found.get("floor_seq", 0) + 1,
        )

    async def member_counts(self, channel_ids: Sequence[str]) -> dict[str, int]:
        with translated():
            found = await self._settled_channels(channel_ids, _COUNT_FIELDS)
        return {channel_id: channel["member_count"] for channel_id, channel in found.items()}

    async def members(self, channel_id: str, *, after_user_id: str = "", limit: int = 500) -> list[Member]:
        where = {"channel_id": channel_id, "state": State.MEMBER.value, "user_id": {"$gt": after_user_id}}
        pending = self._trail.view()
        with translated():
            await self._settled_channel(channel_id)
            found = await self._collections.memberships.find(where).sort("user_id", 1).limit(limit).to_list()
        return [
            Member(
                each["user_id"],
                Role(each["role"]),
                each["joined_seq"],
                each["read_seq"],
                each["delivered_seq"],
            )
            for each in map(pending.membership, found)
        ]

    async def conversations(
        self, user_id: str, *, cursor: str | None, limit: int, archived: bool
    ) -> ConversationPage:
        activity_id, after_channel = parse_cursor(cursor)
        pending = self._trail.view()
        with translated():
            where = {"user_id": user_id, "state": State.MEMBER.value, "archived": archived}
            found = await self._collections.memberships.find(where).to_list()
            mine = {each["channel_id"]: pending.membership(each) for each in found}
            channels = await self._channels(list(mine))
            lines = sorted(
                map(pending.channel, channels.values()),
                key=lambda each: (-each["head_message_id"], each["_id"]),
            )
            lines = [
                each
                for each in lines
                if (-each["head_message_id"], each["_id"]) > (-activity_id, after_channel)
            ]
            more, lines = len(lines) > limit, lines[:limit]
            last = await gathered([self._last_item(each, mine[each["_id"]]) for each in lines])
            others = await gathered([self._others(each["_id"], user_id) for each in lines])
        made = [
            _line(each, mine[each["_id"]], item, members)
            for each, item, members in zip(lines, last, others, strict=True)
        ]
        next_cursor = cursor_of(made[-1].activity_id, made[-1].channel_id) if more else None
        return ConversationPage(made, next_cursor)

    async def _last_item(self, channel: Document, membership: Document) -> HistoryItem | None:
        """The last message by the log, and by the way its number: the channel's own may be behind, if the process
        that stored it has died."""
        newest = await self._newest(channel["_id"], 1)
        if newest and newest[0]["seq"] > channel["head_seq"]:
            self._audit.saw({channel["_id"]: head_of(newest[0])})
        for each in newest:
            channel["head_messages"] = max(channel["head_messages"], head_of(each).messages)
        if newest and newest[0]["kind"] != EventKind.MESSAGE:
            newest = await self._newest(channel["_id"], _NEWEST)
        message = next((each for each in newest if each["kind"] == EventKind.MESSAGE), None)
        if message is None and channel["message_seq"]:
            where = {"channel_id": channel["_id"], "seq": channel["message_seq"]}
            message = await self._collections.events.find_one(where, EVENT_FIELDS)
        if message is None or message["seq"] <= _visible_from(membership, channel):
            return None
        return (await fold(self._collections, channel["_id"], [message]))[0]

    async def _newest(self, channel_id: str, limit: int) -> list[Document]:
        where = {"channel_id": channel_id, "listed": True}
        found = self._collections.events.find(where, EVENT_FIELDS).sort("message_id", -1)
        return await found.limit(limit).to_list()

    async def _others(self, channel_id: str, user_id: str) -> list[str]:
        where = {"channel_id": channel_id, "state": State.MEMBER.value, "user_id": {"$ne": user_id}}
        found = self._collections.memberships.find(where, {"user_id": 1}).sort("user_id", 1)
        return [each["user_id"] async for each in found.limit(OTHERS_SHOWN)]

    async def conversation_prefs(
        self,
        channel_id: str,
        user_id: str,
        *,
        muted_until: int | None,
        pinned: bool | None,
        archived: bool | None,
    ) -> ConversationPrefs | None:
        where = {"channel_id": channel_id, "user_id": user_id, "state": State.MEMBER.value}
        given = {"muted_until": muted_until, "pinned": pinned, "archived": archived}
        values = {name: value for name, value in given.items() if value is not None}
        with translated():
            if values:
                await self._collections.memberships.update_one(where, {"$set": values})
            found = await self._collections.memberships.find_one(where)
        return None if found is None else _prefs(found)

    async def put_watermarks(self, watermarks: Sequence[Watermark]) -> list[WatermarkState | None]:
        if not watermarks:
            return []
        with translated():
            return await put_watermarks(self._collections, watermarks, self._trail.view())

    async def unread(self, user_id: str, channel_ids: Sequence[str]) -> dict[str, int]:
        if not channel_ids:
            return {}
        where = {
            "channel_id": {"$in": list(dict.fromkeys(channel_ids))},
            "user_id": user_id,
            "state": State.MEMBER.value,
        }
        pending = self._trail.view()
        with translated():
            mine = await self._collections.memberships.find(where).to_list()
            channels = await self._channels([each["channel_id"] for each in mine])
        return {
            each["channel_id"]: _unread(
                pending.membership(each), pending.channel(channels[each["channel_id"]])
            )
            for each in mine
            if each["channel_id"] in channels
        }


def _visible_from(membership: Document, channel: Document) -> int:
    """What is before one's time, and what retention has removed."""
    return max(int(membership["from_seq"]), int(channel.get("floor_seq", 0)))


def _unread(membership: Document, channel: Document) -> int:
    """What is gone is not unread. Marks go by the log, and the head trails it."""
    read = max(int(membership["read_messages"]), channel.get("floor_messages", 0))
    return max(0, int(channel["head_messages"]) - int(read))


def _grant(membership: Document, channel: Document) -> Grant:
    return Grant(
        membership["user_id"],
        membership["channel_id"],
        Role(membership["role"]),
        _visible_from(membership, channel),
        channel["members_seq"],
        ChannelKind(channel["kind"]),
        channel["member_count"],
        membership["joined_seq"],
    )


def _head(channel: Document) -> Head:
    return Head(
        channel["head_seq"], channel["head_message_id"], channel["head_messages"], channel["members_seq"]
    )


def _prefs(membership: Document) -> ConversationPrefs:
    return ConversationPrefs(membership["muted_until"], membership["pinned"], membership["archived"])


def _line(
    channel: Document, membership: Document, last: HistoryItem | None, others: list[str]
) -> Conversation:
    return Conversation(
        channel_id=channel["_id"],
        kind=ChannelKind(channel["kind"]),
        name=channel["name"],
        activity_id=channel["head_message_id"],
        seq=channel["head_seq"],
        unread=_unread(membership, channel),
        read_seq=membership["read_seq"],
        role=Role(membership["role"]),
        member_count=channel["member_count"],
        members=others,
        prefs=_prefs(membership),
        last_message=last,
    )
