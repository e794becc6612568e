"""Moving watermarks forward, and the unread counts that follow."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chatkernel.storage.model import Watermark, WatermarkState
from chatkernel.storage.sql.statements import Query, Row, Write, writers_meet

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


class _Standing:
    """A membership's watermarks while a batch is applied."""

    __slots__ = (
        "delivered_seq",
        "from_seq",
        "head_messages",
        "head_seq",
        "moved",
        "read_messages",
        "read_moved",
        "read_seq",
    )

    def __init__(self, row: Row) -> None:
        (
            self.read_seq,
            self.delivered_seq,
            self.read_messages,
            self.from_seq,
            self.head_seq,
            self.head_messages,
        ) = row
        self.moved = self.read_moved = False

    def move(self, mark: Watermark) -> bool:
        """Forward only, not past the head; what was read was delivered. Whether anything moved."""
        read = max(self.read_seq, min(mark.read_seq, self.head_seq))
        delivered = max(self.delivered_seq, min(mark.delivered_seq, self.head_seq), read)
        if read == self.read_seq and delivered == self.delivered_seq:
            return False
        self.read_moved |= read != self.read_seq
        self.read_seq, self.delivered_seq, self.moved = read, delivered, True
        return True


_Key = tuple[str, str]


def put_watermarks(conn: Connection, watermarks: Sequence[Watermark]) -> list[WatermarkState | None]:
    """In one transaction, in which nobody else moves these."""
    keys: list[_Key] = list({(mark.channel_id, mark.user_id): None for mark in watermarks})
    if writers_meet(conn):
        # A statement of its own, so that the heads are read when the marks can no longer pass them.
        _hold.rows_for(conn, keys)
    standing = {(row[0], row[1]): _Standing(row[2:]) for row in _standing.rows_for(conn, keys)}
    moved = [
        (found := standing.get((mark.channel_id, mark.user_id))) is not None and found.move(mark)
        for mark in watermarks
    ]
    _count_read(conn, standing)
    changed = [
        (*key, found.read_seq, found.delivered_seq, found.read_messages)
        for key, found in standing.items()
        if found.moved
    ]
    _move.run_for(conn, changed)
    return [_state(mark, standing, did) for mark, did in zip(watermarks, moved, strict=True)]


def _count_read(conn: Connection, standing: dict[_Key, _Standing]) -> None:
    """Messages up to the new marks: known at the head, else read from the event there."""
    inside: dict[_Key, _Standing] = {}
    for key, found in standing.items():
        if not found.read_moved:
            continue
        if found.read_seq == found.head_seq:
            found.read_messages = found.head_messages
        elif found.read_seq > found.from_seq:
            inside[key] = found
    places = list({(key[0], found.read_seq): None for key, found in inside.items()})
    counts = {(row[0], row[1]): row[2] for row in _messages_upto.rows_for(conn, places)}
    for key, found in inside.items():
        found.read_messages = counts[key[0], found.read_seq]


def _state(mark: Watermark, standing: dict[_Key, _Standing], moved: bool) -> WatermarkState | None:
    found = standing.get((mark.channel_id, mark.user_id))
    if found is None:
        return None
    unread = found.head_messages - found.read_messages
    return WatermarkState(mark.channel_id, mark.user_id, found.read_seq, found.delivered_seq, unread, moved)
