"""Storing events and what follows from them, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chatkernel.protocol import CHANGE_KINDS, Event, EventKind
from chatkernel.storage.model import InsertOutcome, Run
from chatkernel.storage.sql.effects import apply_effects
from chatkernel.storage.sql.rows import extra_of, metadata_text
from chatkernel.storage.sql.statements import Query, Row, Write

_insert_events = Write(
    "INSERT INTO events ({columns}) VALUES {rows}",
    values="channel_id, seq, message_id, kind, sender_id, client_msg_id, created_at, messages_before,"
    " members_seq, listed, text, metadata, reply_to, target_id, extra",
)
_insert_channels = Write(
    "INSERT INTO channels ({columns}) VALUES {rows}",
    values="channel_id, kind, name, history_from_start, created_at",
)
# The guard keeps a log dense and its message ids rising: a run that does not follow the head moves nothing.
_move_heads = Write(
    "UPDATE channels SET head_seq = moved.seq, head_message_id = moved.message_id,"
    " head_messages = moved.messages, members_seq = moved.members_seq,"
    " listed_seq = COALESCE(moved.listed_seq, channels.listed_seq)"
    " FROM {values} moved WHERE channels.channel_id = moved.channel_id AND channels.head_seq = moved.base"
    " AND channels.head_message_id < moved.first_id",
    values="channel_id, base, first_id, seq, message_id, messages, members_seq, listed_seq",
)
_senders_read = Write(
    "UPDATE memberships SET read_seq = sent.seq, read_messages = sent.messages,"
    " delivered_seq = CASE WHEN delivered_seq < sent.seq THEN sent.seq ELSE delivered_seq END"
    " FROM {values} sent WHERE memberships.channel_id = sent.channel_id AND memberships.user_id = sent.user_id"
    " AND memberships.read_seq < sent.seq",
    values="channel_id, user_id, seq, messages",
)
_head_seqs = Query(
    "channel_id, head_seq",
    "SELECT c.channel_id, c.head_seq FROM {values} k CROSS JOIN channels c WHERE c.channel_id = k.channel_id",
    values="channel_id",
)
_already_sent = Query(
    "n",
    "SELECT k.n FROM {values} k CROSS JOIN events e WHERE e.channel_id = k.channel_id AND e.sender_id = k.sender_id"
    " AND e.client_msg_id = k.client_msg_id",
    values="n, channel_id, sender_id, client_msg_id",
)


class _OffHead(Exception):
    """A run does not follow the head of its channel."""


def insert_runs(conn: Connection, runs: Sequence[Run]) -> list[InsertOutcome]:
    """Store each run or refuse it, in the caller's transaction.

    All at once first: refusals are rare. After one, the runs that cannot be stored are told by two look-ups (we
    hold the write lock, so the answer stays true), and the others are tried again together; only if that fails
    too, because runs of this call meet each other, each is tried alone.
    """
    if _try_all(conn, runs):
        return [InsertOutcome.STORED] * len(runs)
    refused = _hopeless(conn, runs)
    left = [run for number, run in enumerate(runs) if number not in refused]
    together = bool(refused) and (not left or _try_all(conn, left))
    return [
        InsertOutcome.STORED
        if number not in refused and (together or _try_all(conn, [run]))
        else InsertOutcome.REFUSED
        for number, run in enumerate(runs)
    ]


def _try_all(conn: Connection, runs: Sequence[Run]) -> bool:
    """Store all of them or leave no trace."""
    conn.exec_driver_sql("SAVEPOINT runs")
    try:
        _store(conn, runs)
    except (IntegrityError, _OffHead):
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT runs")
        return False
    conn.exec_driver_sql("RELEASE SAVEPOINT runs")
    return True


def _hopeless(conn: Connection, runs: Sequence[Run]) -> set[int]:
    """Numbers of the runs that meet what is stored already."""
    heads: dict[str, int] = dict(
        _head_seqs.rows_for(conn, [(channel_id,) for channel_id in {run.channel_id for run in runs}])
    )
    refused: set[int] = set()
    for number, run in enumerate(runs):
        base = run.events[0].seq - 1
        stale = base < heads.get(run.channel_id, 0)
        created_twice = run.channel is not None and run.channel_id in heads
        if stale or created_twice:
            refused.add(number)
    keys = [
        (number, event.channel_id, event.sender_id, event.client_msg_id)
        for number, run in enumerate(runs)
        if number not in refused
        for event in run.events
    ]
    return refused | {number for (number,) in _already_sent.rows_for(conn, keys)}


def _store(conn: Connection, runs: Sequence[Run]) -> None:
    rows: list[Row] = []
    created: list[Row] = []
    heads: list[Row] = []
    reads: dict[tuple[str, str], Row] = {}
    others: list[Event] = []
    seen: set[str] = set()
    for run in runs:
        if run.channel_id in seen:
            # Two runs of one channel cannot move its head in one statement.
            raise _OffHead(run.channel_id)
        seen.add(run.channel_id)
        if run.channel is not None:
            info, first = run.channel, run.events[0]
            created.append(
                (info.channel_id, info.kind.value, info.name, info.history_from_start, first.created_at)
            )
        for event in run.events:
            rows.append(_row(event))
            if event.kind is EventKind.MESSAGE:
                key = (event.channel_id, event.sender_id)
                reads[key] = (*key, event.seq, event.messages_before + 1)
            else:
                others.append(event)
        heads.append(_head(run))
    if created:
        _insert_channels.run_for(conn, created)
    _insert_events.run_for(conn, rows)
    if _move_heads.run_for(conn, heads) != len(heads):
        raise _OffHead
    if others:
        infos = {run.channel_id: run.channel for run in runs if run.channel is not None}
        apply_effects(conn, others, infos)
    if reads:
        _senders_read.run_for(conn, list(reads.values()))


def _head(run: Run) -> Row:
    first, last = run.events[0], run.events[-1]
    if last.seq - first.seq != len(run.events) - 1:
        raise _OffHead(run.channel_id)
    listed = next((event.seq for event in reversed(run.events) if event.kind not in CHANGE_KINDS), None)
    messages = last.messages_before + (last.kind is EventKind.MESSAGE)
    base, seq = first.seq - 1, last.seq
    return run.channel_id, base, first.message_id, seq, last.message_id, messages, last.members_seq, listed


def _row(event: Event) -> Row:
    return (
        event.channel_id,
        event.seq,
        event.message_id,
        event.kind.value,
        event.sender_id,
        event.client_msg_id,
        event.created_at,
        event.messages_before,
        event.members_seq,
        event.kind not in CHANGE_KINDS,
        event.text,
        metadata_text(event.metadata),
        event.reply_to,
        event.target_id,
        extra_of(event),
    )
