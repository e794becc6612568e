"""Reading the log: heads, ranges for sync, and pages of history with the present state folded in."""

# ruff: noqa: S608 - constants of this module are joined; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection

from chatkernel.errors import ChatError, Code
from chatkernel.message_ids import message_id_at
from chatkernel.protocol import Event, HistoryItem
from chatkernel.storage.model import EventRange, Head, HistoryPage, PageQuery, SendKey
from chatkernel.storage.sql.rows import EVENT_COLUMNS, STATE_COLUMNS, event_of, item_of, qualified
from chatkernel.storage.sql.statements import Query, Row

_END = 1 << 53
"""Greater than any seq and any message id."""
_ITEM_COLUMNS = f"{EVENT_COLUMNS}, {STATE_COLUMNS}"

_heads = Query(
    "channel_id, head_seq, head_message_id, head_messages, members_seq",
    "SELECT c.channel_id, c.head_seq, c.head_message_id, c.head_messages, c.members_seq"
    " FROM {values} k CROSS JOIN channels c WHERE c.channel_id = k.channel_id AND c.head_seq > 0",
    values="channel_id",
)
_ids_at = Query(
    "channel_id, message_id",
    "SELECT k.channel_id, e.message_id FROM {values} k CROSS JOIN events e"
    " WHERE e.channel_id = k.channel_id AND e.seq = k.seq",
    values="channel_id, seq",
)
_sent = Query(
    f"n, {EVENT_COLUMNS}",
    f"SELECT k.n, {qualified(EVENT_COLUMNS, 'e')} FROM {{values}} k CROSS JOIN events e"
    " WHERE e.channel_id = k.channel_id AND e.sender_id = k.sender_id AND e.client_msg_id = k.client_msg_id",
    values="n, channel_id, sender_id, client_msg_id",
)
# The log is dense above its floor, so a limit is a bound on seq, and one statement reads all ranges. A range that
# begins below the floor begins at it. That is reckoned apart: PostgreSQL would not look up in an index what hangs on
# two tables.
_ranges = Query(
    f"n, {EVENT_COLUMNS}",
    "WITH wanted AS MATERIALIZED (SELECT k.n, k.channel_id, k.most, k.upto,"
    " CASE WHEN k.low > c.floor_seq THEN k.low ELSE c.floor_seq END AS low"
    " FROM {values} k CROSS JOIN channels c WHERE c.channel_id = k.channel_id)"
    f" SELECT wanted.n, {qualified(EVENT_COLUMNS, 'e')} FROM wanted CROSS JOIN events e"
    " WHERE e.channel_id = wanted.channel_id AND e.seq > wanted.low"
    " AND e.seq <= wanted.low + wanted.most AND e.seq <= wanted.upto",
    values="n, channel_id, low, most, upto",
)
# Pages go by message id, which rises with seq and has the index; a bound by seq is looked up first. What stands at
# the bound itself may have been removed by retention: the next event that is there is the bound as well.
_BOUNDS = (
    " channel_id = :channel_id AND listed"
    " AND message_id >= COALESCE((SELECT l.message_id FROM events l"
    " WHERE l.channel_id = :channel_id AND l.seq > :low ORDER BY l.seq LIMIT 1), :end)"
    " AND message_id < COALESCE((SELECT h.message_id FROM events h"
    " WHERE h.channel_id = :channel_id AND h.seq >= :high ORDER BY h.seq LIMIT 1), :end)"
)
_older = Query(
    _ITEM_COLUMNS,
    f"SELECT {_ITEM_COLUMNS} FROM events WHERE {_BOUNDS} ORDER BY message_id DESC LIMIT :limit",
)
_newer = Query(
    _ITEM_COLUMNS,
    f"SELECT {_ITEM_COLUMNS} FROM events WHERE {_BOUNDS} ORDER BY message_id LIMIT :limit",
)
_seq_of = Query(
    "seq",
    "SELECT seq FROM events"
    " WHERE channel_id = :channel_id AND message_id = :message_id AND listed AND seq > :from_seq",
)
_seq_at = Query(
    "seq",
    "SELECT seq FROM events WHERE channel_id = :channel_id AND message_id >= :message_id"
    " AND listed ORDER BY message_id LIMIT 1",
)
_one = Query(
    _ITEM_COLUMNS,
    f"SELECT {_ITEM_COLUMNS} FROM events WHERE channel_id = :channel_id AND message_id = :message_id AND listed",
)
_reactions = Query(
    "message_id, emoji, user_id, since_seq",
    "SELECT message_id, emoji, user_id, since_seq FROM reactions WHERE channel_id = :channel_id"
    " AND message_id BETWEEN :low AND :high AND active",
)


def heads(conn: Connection, channel_ids: Sequence[str]) -> dict[str, Head]:
    rows = _heads.rows_for(conn, [(channel_id,) for channel_id in channel_ids])
    return {row[0]: Head(row[1], row[2], row[3], row[4]) for row in rows}


def message_ids(conn: Connection, places: Sequence[tuple[str, int]]) -> dict[str, int]:
    return dict(_ids_at.rows_for(conn, places))


def find_sent(conn: Connection, keys: Sequence[SendKey]) -> dict[SendKey, Event]:
    values = [(n, key.channel_id, key.sender_id, key.client_msg_id) for n, key in enumerate(keys)]
    return {keys[row[0]]: event_of(row[1:], row[10]) for row in _sent.rows_for(conn, values)}


def events_in(conn: Connection, ranges: Sequence[EventRange]) -> list[list[Event]]:
    values: list[Row] = []
    for n, wanted in enumerate(ranges):
        upto = _END if wanted.upto_seq is None else wanted.upto_seq
        values.append((n, wanted.channel_id, wanted.after_seq, wanted.limit, upto))
    answer: list[list[Event]] = [[] for _ in ranges]
    for row in sorted(_ranges.rows_for(conn, values), key=itemgetter(0, 2)):
        answer[row[0]].append(event_of(row[1:], row[10]))
    return answer


def message(conn: Connection, channel_id: str, message_id: int) -> HistoryItem | None:
    row = _one.row(conn, {"channel_id": channel_id, "message_id": message_id})
    return None if row is None else _fold(conn, channel_id, [row])[0]


def page(conn: Connection, query: PageQuery) -> HistoryPage:
    if query.before is not None:
        return _page_before(conn, query, query.before)
    if query.after is not None:
        return _page_from(conn, query, query.after + 1)
    if query.around is not None:
        return _page_around(conn, query, query.around)
    if query.at is not None:
        found = _seq_at.row(conn, {"channel_id": query.channel_id, "message_id": message_id_at(query.at)})
        if found is not None:
            at = _page_from(conn, query, found[0])
            if at.items:
                return at
    return _page_before(conn, query, _END)


def _page_before(conn: Connection, query: PageQuery, before: int) -> HistoryPage:
    rows = _read_older(conn, query, before, query.limit + 1)
    more = len(rows) > query.limit
    kept = rows[: query.limit][::-1]
    after = before < _END and bool(_read_newer(conn, query, before, 1))
    return HistoryPage(_fold(conn, query.channel_id, kept), more, after)


def _page_from(conn: Connection, query: PageQuery, first: int) -> HistoryPage:
    rows = _read_newer(conn, query, first, query.limit + 1)
    kept = rows[: query.limit]
    before = bool(_read_older(conn, query, kept[0][1] if kept else first, 1))
    return HistoryPage(_fold(conn, query.channel_id, kept), before, len(rows) > query.limit)


def _page_around(conn: Connection, query: PageQuery, message_id: int) -> HistoryPage:
    """Half of the page before the event, and it with what follows in the other half; at an end, more of the
    other side."""
    found = _seq_of.row(
        conn, {"channel_id": query.channel_id, "message_id": message_id, "from_seq": query.from_seq}
    )
    if found is None:
        raise ChatError(Code.MESSAGE_NOT_FOUND)
    older = _read_older(conn, query, found[0], query.limit + 1)
    newer = _read_newer(conn, query, found[0], query.limit + 1)
    half = query.limit // 2
    old_count = min(len(older), max(half, query.limit - len(newer)))
    new_count = min(len(newer), query.limit - old_count)
    kept = older[:old_count][::-1] + newer[:new_count]
    items = _fold(conn, query.channel_id, kept)
    return HistoryPage(items, len(older) > old_count, len(newer) > new_count)


def _read_older(conn: Connection, query: PageQuery, before: int, limit: int) -> list[Row]:
    """Newest first."""
    if before <= query.from_seq + 1:
        return []
    return _older.rows(conn, _bounds(query, query.from_seq, before, limit))


def _read_newer(conn: Connection, query: PageQuery, first: int, limit: int) -> list[Row]:
    return _newer.rows(conn, _bounds(query, max(query.from_seq, first - 1), _END, limit))


def _bounds(query: PageQuery, low: int, high: int, limit: int) -> dict[str, int | str]:
    """low < seq < high; neither need be in the log."""
    return {"channel_id": query.channel_id, "low": low, "high": high, "limit": limit, "end": _END}


def _fold(conn: Connection, channel_id: str, rows: Sequence[Row]) -> list[HistoryItem]:
    """Rows of one channel, rising, as items with their reactions."""
    if not rows:
        return []
    params = {"channel_id": channel_id, "low": rows[0][2], "high": rows[-1][2]}
    reactions: dict[int, dict[str, list[str]]] = {}
    for message_id, emoji, user_id, _ in sorted(_reactions.rows(conn, params), key=itemgetter(3)):
        reactions.setdefault(message_id, {}).setdefault(emoji, []).append(user_id)
    return [item_of(row, reactions.get(row[2])) for row in rows]
