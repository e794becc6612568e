"""What an event changes beside the log: who is in the channel, its name, and the message it is about.

Applied in order of seq, in the transaction of the event. Each change is also guarded by the event's seq where an
older one could meet a newer one's effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind
from chatkernel.storage.sql.statements import Query, Row, Write

_history_from_start = Query(
    "history_from_start", "SELECT history_from_start FROM channels WHERE channel_id = :channel_id"
)
_add_members = Write(
    "INSERT INTO memberships ({columns}) VALUES {rows} ON CONFLICT (channel_id, user_id) DO NOTHING",
    values="channel_id, user_id, role, joined_seq, from_seq, read_seq, delivered_seq, read_messages",
)
_remove_member = Write("DELETE FROM memberships WHERE channel_id = :channel_id AND user_id = :user_id")
_count_members = Write(
    "UPDATE channels SET member_count ="
    " (SELECT COUNT(*) FROM memberships m WHERE m.channel_id = channels.channel_id)"
    " WHERE channel_id = :channel_id"
)
_ban = Write(
    "INSERT INTO bans (channel_id, user_id, seq) VALUES (:channel_id, :user_id, :seq)"
    " ON CONFLICT (channel_id, user_id) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > bans.seq"
)
_lift_ban = Write("DELETE FROM bans WHERE channel_id = :channel_id AND user_id = :user_id AND seq < :seq")
_set_role = Write(
    "UPDATE memberships SET role = :role"
    " WHERE channel_id = :channel_id AND user_id = :user_id AND joined_seq < :seq"
)
_yield_ownership = Write(
    "UPDATE memberships SET role = 'admin'"
    " WHERE channel_id = :channel_id AND user_id = :user_id AND role = 'owner'"
)
_rename = Write("UPDATE channels SET name = :name WHERE channel_id = :channel_id AND head_seq >= :seq")
_set_retention = Write(
    "UPDATE channels SET retention_s = :retention_s WHERE channel_id = :channel_id AND head_seq >= :seq"
)
_edit = Write(
    "UPDATE events SET edited_text = :text, edited_at = :at, edit_seq = :seq"
    " WHERE channel_id = :channel_id AND message_id = :target_id AND listed"
    " AND kind = 'message' AND deleted_seq IS NULL AND COALESCE(edit_seq, 0) < :seq"
)
_forget_edit_of_deleted = Write(
    "UPDATE events SET text = NULL, metadata = NULL WHERE channel_id = :channel_id AND seq = :seq AND EXISTS"
    " (SELECT 1 FROM events t WHERE t.channel_id = :channel_id AND t.message_id = :target_id AND t.listed"
    " AND t.deleted_seq IS NOT NULL)"
)
_delete = Write(
    "UPDATE events SET text = NULL, metadata = NULL, edited_text = NULL, deleted_seq = :seq"
    " WHERE channel_id = :channel_id AND message_id = :target_id AND listed"
    " AND kind = 'message' AND deleted_seq IS NULL"
)
_note_edit = Write(
    "INSERT INTO edits (channel_id, target_id, seq) VALUES (:channel_id, :target_id, :seq)"
    " ON CONFLICT (channel_id, target_id, seq) DO NOTHING"
)
_forget_edits = Write(
    "UPDATE events SET text = NULL, metadata = NULL WHERE channel_id = :channel_id AND seq IN"
    " (SELECT e.seq FROM edits e WHERE e.channel_id = :channel_id AND e.target_id = :target_id)"
)
_react = Write(
    "INSERT INTO reactions (channel_id, message_id, emoji, user_id, seq, since_seq, active)"
    " VALUES (:channel_id, :target_id, :emoji, :user_id, :seq, :seq, :on)"
    " ON CONFLICT (channel_id, message_id, emoji, user_id) DO UPDATE SET"
    " since_seq = CASE WHEN reactions.active AND excluded.active"
    " THEN reactions.since_seq ELSE excluded.since_seq END,"
    " seq = excluded.seq, active = excluded.active WHERE excluded.seq > reactions.seq"
)


def apply_effects(conn: Connection, events: Sequence[Event], infos: Mapping[str, ChannelInfo]) -> None:
    """Of events that are not messages; what a message moves, the tables' triggers do.

    `infos` are the channels that are created by these events.
    """
    for event in events:
        effect = _EFFECTS.get(event.kind)
        if effect is not None:
            effect(conn, event, infos)


def _created(conn: Connection, event: Event, infos: Mapping[str, ChannelInfo]) -> None:
    info = infos.get(event.channel_id)
    users = event.users or [event.sender_id]
    # The two of a pair are equal; a group is its creator's.
    creator = Role.OWNER if info is not None and info.kind is ChannelKind.GROUP else Role.MEMBER
    rows: list[Row] = []
    for number, user_id in enumerate(dict.fromkeys(users)):
        first = number == 0
        read = event.seq if first else 0
        role = creator if first else Role.MEMBER
        rows.append((event.channel_id, user_id, role.value, event.seq, 0, read, read, 0))
    _add_members.run_for(conn, rows)
    _count_members.run(conn, {"channel_id": event.channel_id})


def _join(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    found = _history_from_start.row(conn, {"channel_id": event.channel_id})
    from_start = found is not None and bool(found[0])
    from_seq, read_messages = (0, 0) if from_start else (event.seq - 1, event.messages_before)
    role = (event.role or Role.MEMBER).value
    users = list(dict.fromkeys(event.users or []))
    _add_members.run_for(
        conn,
        [(event.channel_id, user_id, role, event.seq, from_seq, 0, 0, read_messages) for user_id in users],
    )
    for user_id in users:
        _lift_ban.run(conn, _of(event, user_id=user_id))
    _count_members.run(conn, {"channel_id": event.channel_id})


def _leave(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    for user_id in event.users or []:
        _remove_member.run(conn, _of(event, user_id=user_id))
        if event.kind is EventKind.BAN:
            _ban.run(conn, _of(event, user_id=user_id))
    _count_members.run(conn, {"channel_id": event.channel_id})


def _role(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    role, users = event.role or Role.MEMBER, event.users or []
    given = [_set_role.run(conn, _of(event, user_id=user_id, role=role.value)) for user_id in users]
    if role is Role.OWNER and any(given) and event.sender_id not in users:
        # A group has one owner: who hands it over stays as an admin. Nobody took it: it has not been handed over.
        _yield_ownership.run(conn, _of(event, user_id=event.sender_id))


def _renamed(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    _rename.run(conn, _of(event, name=event.name or ""))


def _retention(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    _set_retention.run(conn, _of(event, retention_s=event.retention_s or 0))


def _edited(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    params = _of(event, text=event.text or "", at=event.created_at)
    if _edit.run(conn, params):
        _note_edit.run(conn, params)
    else:
        _forget_edit_of_deleted.run(conn, params)


def _deleted(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    _delete.run(conn, _of(event))
    _forget_edits.run(conn, _of(event))


def _reacted(conn: Connection, event: Event, _infos: Mapping[str, ChannelInfo]) -> None:
    if event.emoji is None or event.target_id is None:
        return
    on = event.on is not False
    _react.run(conn, _of(event, user_id=event.sender_id, emoji=event.emoji, on=on))


def _of(event: Event, **more: Any) -> dict[str, Any]:
    return {"channel_id": event.channel_id, "seq": event.seq, "target_id": event.target_id, **more}


_EFFECTS: dict[EventKind, Callable[[Connection, Event, Mapping[str, ChannelInfo]], None]] = {
    EventKind.CREATED: _created,
    EventKind.JOIN: _join,
    EventKind.LEAVE: _leave,
    EventKind.BAN: _leave,
    EventKind.ROLE: _role,
    EventKind.RENAME: _renamed,
    EventKind.RETENTION: _retention,
    EventKind.EDIT: _edited,
    EventKind.DELETE: _deleted,
    EventKind.REACTION: _reacted,
}
