"""Rows of events to structs and back."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from chatkernel.protocol import Event, EventKind, HistoryItem, Role
from chatkernel.storage.sql.statements import Row


class _Extra(Struct, frozen=True, omit_defaults=True):
    """The fields that few events have, in one column."""

    emoji: str | None = None
    on: bool | None = None
    users: list[str] | None = None
    role: Role | None = None
    name: str | None = None
    retention_s: int | None = None


EVENT_COLUMNS = (
    "channel_id, seq, message_id, kind, sender_id, client_msg_id, created_at, messages_before, members_seq,"
    " text, metadata, reply_to, target_id, extra"
)
STATE_COLUMNS = "edited_text, edited_at, deleted_seq"
_EVENT_WIDTH = 14

_kinds = {kind.value: kind for kind in EventKind}
_extra = msgspec.json.Decoder(_Extra)
_metadata = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def qualified(columns: str, table: str) -> str:
    """`a, b` as `t.a, t.b`."""
    return ", ".join(f"{table}.{name.strip()}" for name in columns.split(","))


def extra_of(event: Event) -> str | None:
    if event.kind is EventKind.MESSAGE:
        return None
    return _encode(
        _Extra(event.emoji, event.on, event.users, event.role, event.name, event.retention_s)
    ).decode()


def metadata_text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else _encode(value).decode()


def event_of(row: Row, text: str | None) -> Event:
    """The event of a row of EVENT_COLUMNS, with this text."""
    metadata, extra = row[10], row[13]
    more = _NO_EXTRA if extra is None else _extra.decode(extra)
    return Event(
        row[0],
        row[1],
        row[2],
        _kinds[row[3]],
        row[4],
        row[5],
        row[6],
        row[7],
        row[8],
        text,
        row[11],
        None if metadata is None else _metadata.decode(metadata),
        row[12],
        more.emoji,
        more.on,
        more.users,
        more.role,
        more.name,
        more.retention_s,
    )


def item_of(row: Row, reactions: dict[str, list[str]] | None) -> HistoryItem:
    """Of a row of EVENT_COLUMNS and STATE_COLUMNS: the message as it is now."""
    edited_text, edited_at, deleted_seq = row[_EVENT_WIDTH : _EVENT_WIDTH + 3]
    deleted = deleted_seq is not None
    text = row[9] if edited_at is None or deleted else edited_text
    return HistoryItem(event_of(row, text), None if deleted else edited_at, deleted, reactions)


_NO_EXTRA = _Extra()
