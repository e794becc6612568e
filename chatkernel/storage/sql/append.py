"""Storing events and what follows from them, in one transaction.

The tables' own triggers (`schema.py`) move the head with each event, and refuse one that does not follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from chatkernel.protocol import CHANGE_KINDS, Event, EventKind
from chatkernel.storage.model import InsertOutcome, Run
from chatkernel.storage.sql.effects import apply_effects
from chatkernel.storage.sql.rows import extra_of, metadata_text
from chatkernel.storage.sql.statements import Query, Row, Write, command, of_any_size

_insert_events = Write(
    "INSERT INTO events ({columns}) VALUES {rows}",
    values="channel_id, seq, message_id, kind, sender_id, client_msg_id, created_at, messages_before,"
    " members_seq, listed, text, metadata, reply_to, target_id, extra",
)
ONE_STATEMENT_ROWS = 64
"""Where each number of rows is a statement of its own, which has to be compiled once."""

_insert_channels = Write(
    "INSERT INTO channels ({columns}) VALUES {rows}",
    values="channel_id, kind, name, history_from_start, created_at",
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


def insert_messages(conn: Connection, runs: Sequence[Run]) -> list[InsertOutcome] | None:
    """Messages only, in one statement that is a transaction of its own; None if that cannot be, or one of them is
    refused: then there is no trace of any."""
    if any(run.channel is not None for run in runs):
        return None
    rows = [_row(event) for run in runs for event in run.events if event.kind is EventKind.MESSAGE]
    if len(rows) < sum(len(run.events) for run in runs):
        return None
    if len(rows) > ONE_STATEMENT_ROWS and not of_any_size(conn):
        return None
    try:
        _insert_events.run_at_once(conn, _in_turn(rows))
    except IntegrityError:
        # Of one run alone nothing is left to find out.
        return [InsertOutcome.REFUSED] if len(runs) == 1 else None
    return [InsertOutcome.STORED] * len(runs)


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
    command(conn, "SAVEPOINT runs")
    try:
        _store(conn, runs)
    except IntegrityError:
        command(conn, "ROLLBACK TO SAVEPOINT runs")
        return False
    command(conn, "RELEASE SAVEPOINT runs")
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
    infos = {run.channel_id: run.channel for run in runs if run.channel is not None}
    if infos:
        begun = {run.channel_id: run.events[0].created_at for run in runs}
        _insert_channels.run_for(
            conn,
            [
                (c, info.kind.value, info.name, info.history_from_start, begun[c])
                for c, info in sorted(infos.items(), key=itemgetter(0))
            ],
        )
    _insert_events.run_for(conn, _in_turn([_row(event) for run in runs for event in run.events]))
    others = [event for run in runs for event in run.events if event.kind is not EventKind.MESSAGE]
    if others:
        apply_effects(conn, others, infos)


def _in_turn(rows: list[Row]) -> list[Row]:
    """By channel and seq: writers that meet in several channels wait for each other, and not in a circle."""
    rows.sort(key=itemgetter(0, 1))
    return rows


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
