"""Moving watermarks forward, and the unread counts that follow."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chatkernel.storage.model import Watermark, WatermarkState
from chatkernel.storage.sql.statements import Query, Write, writers_meet
from chatkernel.storage.standing import Key, Standing, move_all, states, to_count

_hold = Query(
    "channel_id",
    "SELECT m.channel_id FROM {values} k CROSS JOIN memberships m"
    " WHERE m.channel_id = k.channel_id AND m.user_id = k.user_id ORDER BY m.channel_id, m.user_id {lock m}",
    values="channel_id, user_id",
)
_standing = Query(
    "channel_id, user_id, read_seq, delivered_seq, read_messages, from_seq, head_seq, head_messages",
    "SELECT m.channel_id, m.user_id, m.read_seq, m.delivered_seq, m.read_messages, m.from_seq, c.head_seq,"
    " c.head_messages FROM {values} k CROSS JOIN memberships m CROSS JOIN channels c"
    " WHERE m.channel_id = k.channel_id AND m.user_id = k.user_id AND c.channel_id = k.channel_id",
    values="channel_id, user_id",
)
_messages_upto = Query(
    "channel_id, seq, messages",
    "SELECT e.channel_id, e.seq,"
    " e.messages_before + CASE WHEN e.kind = 'message' THEN 1 ELSE 0 END AS messages"
    " FROM {values} k CROSS JOIN events e WHERE e.channel_id = k.channel_id AND e.seq = k.seq",
    values="channel_id, seq",
)
_move = Write(
    "UPDATE memberships SET read_seq = moved.read_seq, delivered_seq = moved.delivered_seq,"
    " read_messages = moved.read_messages"
    " FROM {values} moved WHERE memberships.channel_id = moved.channel_id AND memberships.user_id = moved.user_id",
    values="channel_id, user_id, read_seq, delivered_seq, read_messages",
)


def put_watermarks(conn: Connection, watermarks: Sequence[Watermark]) -> list[WatermarkState | None]:
    """In one transaction, in which nobody else moves these."""
    keys: list[Key] = list({(mark.channel_id, mark.user_id): None for mark in watermarks})
    if writers_meet(conn):
        # A statement of its own, so that the heads are read when the marks can no longer pass them.
        _hold.rows_for(conn, keys)
    standing = {(row[0], row[1]): Standing(*row[2:]) for row in _standing.rows_for(conn, keys)}
    moved = move_all(standing, watermarks)
    _count_read(conn, to_count(standing))
    changed = [
        (*key, found.read_seq, found.delivered_seq, found.read_messages)
        for key, found in standing.items()
        if found.moved
    ]
    _move.run_for(conn, changed)
    return states(standing, watermarks, moved)


def _count_read(conn: Connection, inside: dict[Key, Standing]) -> None:
    places = list({(key[0], found.read_seq): None for key, found in inside.items()})
    counts = {(row[0], row[1]): row[2] for row in _messages_upto.rows_for(conn, places)}
    for key, found in inside.items():
        found.read_messages = counts[key[0], found.read_seq]
