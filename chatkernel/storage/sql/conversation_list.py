"""A page of "my conversations": newest activity first, with last message, unread count and a few members."""

# ruff: noqa: S608 - constants of this module are joined; values are always bound

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chatkernel.protocol import HistoryItem, Role
from chatkernel.storage.list_cursor import cursor_of, parse_cursor
from chatkernel.storage.model import (
    OTHERS_SHOWN,
    ChannelKind,
    Conversation,
    ConversationPage,
    ConversationPrefs,
)
from chatkernel.storage.sql.floor import READ_MESSAGES, VISIBLE_FROM
from chatkernel.storage.sql.rows import EVENT_COLUMNS, STATE_COLUMNS, item_of, qualified
from chatkernel.storage.sql.statements import Query, Row

_ITEM_COLUMNS = f"{EVENT_COLUMNS}, {STATE_COLUMNS}"
_LINE_COLUMNS = (
    "channel_id, kind, name, activity_id, seq, unread, read_seq, role, member_count, muted_until, pinned,"
    " archived, message_seq, from_seq"
)
_lines = Query(
    _LINE_COLUMNS,
    "SELECT c.channel_id, c.kind, c.name, c.head_message_id AS activity_id, c.head_seq AS seq,"
    f" c.head_messages - {READ_MESSAGES} AS unread, m.read_seq, m.role, c.member_count, m.muted_until, m.pinned,"
    f" m.archived, c.message_seq, {VISIBLE_FROM} AS from_seq"
    # The inner part touches only an index of memberships and the heads; the rest is read for one page.
    " FROM (SELECT i.channel_id FROM memberships i CROSS JOIN channels h"
    " WHERE i.user_id = :user_id AND i.archived = :archived AND h.channel_id = i.channel_id"
    " AND (h.head_message_id < :activity_id"
    " OR (h.head_message_id = :activity_id AND h.channel_id > :channel_id))"
    " ORDER BY h.head_message_id DESC, h.channel_id LIMIT :limit) p"
    " CROSS JOIN channels c CROSS JOIN memberships m"
    " WHERE c.channel_id = p.channel_id AND m.channel_id = p.channel_id AND m.user_id = :user_id"
    " ORDER BY c.head_message_id DESC, c.channel_id",
)
_last = Query(
    _ITEM_COLUMNS,
    f"SELECT {qualified(_ITEM_COLUMNS, 'e')} FROM {{values}} k CROSS JOIN events e"
    " WHERE e.channel_id = k.channel_id AND e.seq = k.seq",
    values="channel_id, seq",
)
_reactions = Query(
    "channel_id, emoji, user_id",
    "SELECT r.channel_id, r.emoji, r.user_id FROM {values} k CROSS JOIN reactions r"
    " WHERE r.channel_id = k.channel_id AND r.message_id = k.message_id AND r.active"
    " ORDER BY r.channel_id, r.since_seq",
    values="channel_id, message_id",
)
_others = Query(
    "channel_id, user_id",
    "SELECT m.channel_id, m.user_id FROM {values} k CROSS JOIN memberships m"
    " WHERE m.channel_id = k.channel_id AND m.user_id IN"
    " (SELECT o.user_id FROM memberships o WHERE o.channel_id = k.channel_id AND o.user_id <> :user_id"
    " ORDER BY o.user_id LIMIT :others) ORDER BY m.channel_id, m.user_id",
    values="channel_id",
)


def conversations(
    conn: Connection, user_id: str, cursor: str | None, limit: int, archived: bool
) -> ConversationPage:
    activity_id, channel_id = parse_cursor(cursor)
    params = {
        "user_id": user_id,
        "archived": archived,
        "activity_id": activity_id,
        "channel_id": channel_id,
        "limit": limit + 1,
    }
    lines = _lines.rows(conn, params)
    more, lines = len(lines) > limit, lines[:limit]
    if not lines:
        return ConversationPage([])
    last = _last_items(conn, lines)
    others: dict[str, list[str]] = {}
    ids = [(line[0],) for line in lines]
    for other_channel, other in _others.rows_for(conn, ids, {"user_id": user_id, "others": OTHERS_SHOWN}):
        others.setdefault(other_channel, []).append(other)
    found = [_line(line, last.get(line[0]), others.get(line[0], [])) for line in lines]
    return ConversationPage(found, cursor_of(lines[-1][3], lines[-1][0]) if more else None)


def _last_items(conn: Connection, lines: Sequence[Row]) -> dict[str, HistoryItem]:
    keys = [(line[0], line[12]) for line in lines if line[12] > line[13]]
    rows = _last.rows_for(conn, keys)
    reactions: dict[str, dict[str, list[str]]] = {}
    for channel_id, emoji, user_id in _reactions.rows_for(conn, [(row[0], row[2]) for row in rows]):
        reactions.setdefault(channel_id, {}).setdefault(emoji, []).append(user_id)
    return {row[0]: item_of(row, reactions.get(row[0])) for row in rows}


def _line(row: Row, last: HistoryItem | None, others: list[str]) -> Conversation:
    return Conversation(
        channel_id=row[0],
        kind=ChannelKind(row[1]),
        name=row[2],
        activity_id=row[3],
        seq=row[4],
        unread=row[5],
        read_seq=row[6],
        role=Role(row[7]),
        member_count=row[8],
        members=others,
        prefs=ConversationPrefs(row[9], bool(row[10]), bool(row[11])),
        last_message=last,
    )
