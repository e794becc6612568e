"""The port Conversations on SQL: grants, members and a person's own view of a channel."""

# ruff: noqa: S608 - constants of this package are joined; values are always bound

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chatkernel.protocol import Role
from chatkernel.storage.model import (
    Absence,
    ChannelKind,
    ChannelState,
    ConversationPage,
    ConversationPrefs,
    Grant,
    Head,
    Member,
    Watermark,
    WatermarkState,
)
from chatkernel.storage.sql.conversation_list import conversations
from chatkernel.storage.sql.floor import READ_MESSAGES, VISIBLE_FROM
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.statements import Query, Row, Write
from chatkernel.storage.sql.watermarks import put_watermarks

_GRANTED = (
    f"SELECT m.user_id, m.channel_id, m.role, {VISIBLE_FROM} AS from_seq, c.members_seq, c.kind, c.member_count,"
    " m.joined_seq"
)
_GRANT = f"{_GRANTED} FROM memberships m CROSS JOIN channels c"
_GRANT_COLUMNS = "user_id, channel_id, role, from_seq, members_seq, kind, member_count, joined_seq"
_grant = Query(
    _GRANT_COLUMNS,
    f"{_GRANT} WHERE m.channel_id = :channel_id AND m.user_id = :user_id AND c.channel_id = m.channel_id",
)
_banned = Query("seq", "SELECT seq FROM bans WHERE channel_id = :channel_id AND user_id = :user_id")
_grants_of = Query(
    _GRANT_COLUMNS,
    f"{_GRANTED} FROM {{values}} k CROSS JOIN memberships m CROSS JOIN channels c"
    " WHERE m.user_id = k.user_id AND c.channel_id = m.channel_id",
    values="user_id",
)
_channels_of = Query(
    "user_id, channel_id",
    "SELECT m.user_id, m.channel_id FROM {values} k CROSS JOIN memberships m WHERE m.user_id = k.user_id",
    values="user_id",
)
_channel_counts = Query(
    "user_id, channels",
    "SELECT k.user_id, COUNT(*) AS channels FROM {values} k CROSS JOIN memberships m"
    " WHERE m.user_id = k.user_id GROUP BY k.user_id",
    values="user_id",
)
_channel = Query(
    "channel_id, kind, name, history_from_start, created_at, head_seq, head_message_id, head_messages,"
    " members_seq, member_count, retention_s, floor_seq",
    "SELECT channel_id, kind, name, history_from_start, created_at, head_seq, head_message_id, head_messages,"
    " members_seq, member_count, retention_s, floor_seq FROM channels WHERE channel_id = :channel_id",
)
_member_counts = Query(
    "channel_id, member_count",
    "SELECT c.channel_id, c.member_count FROM {values} k CROSS JOIN channels c WHERE c.channel_id = k.channel_id",
    values="channel_id",
)
_members = Query(
    "user_id, role, joined_seq, read_seq, delivered_seq",
    "SELECT user_id, role, joined_seq, read_seq, delivered_seq FROM memberships"
    " WHERE channel_id = :channel_id AND user_id > :after ORDER BY user_id LIMIT :limit",
)
_set_prefs = Write(
    "UPDATE memberships SET muted_until = COALESCE(:muted_until, muted_until),"
    " pinned = COALESCE(:pinned, pinned), archived = COALESCE(:archived, archived)"
    " WHERE channel_id = :channel_id AND user_id = :user_id"
)
_prefs = Query(
    "muted_until, pinned, archived",
    "SELECT muted_until, pinned, archived FROM memberships"
    " WHERE channel_id = :channel_id AND user_id = :user_id",
)
_unread = Query(
    "channel_id, unread",
    f"SELECT c.channel_id, c.head_messages - {READ_MESSAGES} AS unread"
    " FROM {values} k CROSS JOIN memberships m CROSS JOIN channels c"
    " WHERE m.channel_id = k.channel_id AND m.user_id = :user_id AND c.channel_id = k.channel_id",
    values="channel_id",
)


def _grant_of(row: Row) -> Grant:
    return Grant(row[0], row[1], Role(row[2]), row[3], row[4], ChannelKind(row[5]), row[6], row[7])


def grant(conn: Connection, channel_id: str, user_id: str) -> Grant | Absence:
    params = {"channel_id": channel_id, "user_id": user_id}
    row = _grant.row(conn, params)
    if row is not None:
        return _grant_of(row)
    return Absence.NOT_MEMBER if _banned.row(conn, params) is None else Absence.BANNED


def grants_of(conn: Connection, user_ids: Sequence[str]) -> dict[str, list[Grant]]:
    answer: dict[str, list[Grant]] = {user_id: [] for user_id in user_ids}
    for row in _grants_of.rows_for(conn, [(user_id,) for user_id in answer]):
        answer[row[0]].append(_grant_of(row))
    return answer


def channels_of(conn: Connection, user_ids: Sequence[str]) -> dict[str, set[str]]:
    answer: dict[str, set[str]] = {user_id: set() for user_id in user_ids}
    for user_id, channel_id in _channels_of.rows_for(conn, [(user_id,) for user_id in answer]):
        answer[user_id].add(channel_id)
    return answer


def channel_counts(conn: Connection, user_ids: Sequence[str]) -> dict[str, int]:
    return dict(_channel_counts.rows_for(conn, [(user_id,) for user_id in dict.fromkeys(user_ids)]))


def channel(conn: Connection, channel_id: str) -> ChannelState | None:
    row = _channel.row(conn, {"channel_id": channel_id})
    if row is None:
        return None
    head = Head(row[5], row[6], row[7], row[8])
    count, retention_s, floor_seq = row[9:12]
    return ChannelState(
        row[0], ChannelKind(row[1]), row[2], bool(row[3]), row[4], head, count, retention_s, floor_seq + 1
    )


def member_counts(conn: Connection, channel_ids: Sequence[str]) -> dict[str, int]:
    return dict(_member_counts.rows_for(conn, [(channel_id,) for channel_id in dict.fromkeys(channel_ids)]))


def members(conn: Connection, channel_id: str, after_user_id: str, limit: int) -> list[Member]:
    rows = _members.rows(conn, {"channel_id": channel_id, "after": after_user_id, "limit": limit})
    return [Member(row[0], Role(row[1]), row[2], row[3], row[4]) for row in rows]


def set_prefs(
    conn: Connection,
    channel_id: str,
    user_id: str,
    *,
    muted_until: int | None,
    pinned: bool | None,
    archived: bool | None,
) -> ConversationPrefs | None:
    who = {"channel_id": channel_id, "user_id": user_id}
    if not _set_prefs.run(conn, {**who, "muted_until": muted_until, "pinned": pinned, "archived": archived}):
        return None
    row = _prefs.row(conn, who)
    return None if row is None else ConversationPrefs(row[0], bool(row[1]), bool(row[2]))


def unread(conn: Connection, user_id: str, channel_ids: Sequence[str]) -> dict[str, int]:
    rows = _unread.rows_for(conn, [(channel_id,) for channel_id in channel_ids], {"user_id": user_id})
    return dict(rows)


class SqlConversations:
    _db: Runner

    async def grant(self, channel_id: str, user_id: str) -> Grant | Absence:
        return await self._db.look(lambda conn: grant(conn, channel_id, user_id))

    async def grants_of(self, user_ids: Sequence[str]) -> dict[str, list[Grant]]:
        return await self._db.look(lambda conn: grants_of(conn, user_ids)) if user_ids else {}

    async def channels_of(self, user_ids: Sequence[str]) -> dict[str, set[str]]:
        return await self._db.look(lambda conn: channels_of(conn, user_ids)) if user_ids else {}

    async def channel_counts(self, user_ids: Sequence[str]) -> dict[str, int]:
        return await self._db.look(lambda conn: channel_counts(conn, user_ids)) if user_ids else {}

    async def channel(self, channel_id: str) -> ChannelState | None:
        return await self._db.look(lambda conn: channel(conn, channel_id))

    async def member_counts(self, channel_ids: Sequence[str]) -> dict[str, int]:
        return await self._db.look(lambda conn: member_counts(conn, channel_ids)) if channel_ids else {}

    async def members(self, channel_id: str, *, after_user_id: str = "", limit: int = 500) -> list[Member]:
        return await self._db.look(lambda conn: members(conn, channel_id, after_user_id, limit))

    async def conversations(
        self, user_id: str, *, cursor: str | None, limit: int, archived: bool
    ) -> ConversationPage:
        return await self._db.read(lambda conn: conversations(conn, user_id, cursor, limit, archived))

    async def conversation_prefs(
        self,
        channel_id: str,
        user_id: str,
        *,
        muted_until: int | None,
        pinned: bool | None,
        archived: bool | None,
    ) -> ConversationPrefs | None:
        return await self._db.write(
            lambda conn: set_prefs(
                conn, channel_id, user_id, muted_until=muted_until, pinned=pinned, archived=archived
            )
        )

    async def put_watermarks(self, watermarks: Sequence[Watermark]) -> list[WatermarkState | None]:
        if not watermarks:
            return []
        return await self._db.write(lambda conn: put_watermarks(conn, watermarks))

    async def unread(self, user_id: str, channel_ids: Sequence[str]) -> dict[str, int]:
        return await self._db.look(lambda conn: unread(conn, user_id, channel_ids)) if channel_ids else {}
