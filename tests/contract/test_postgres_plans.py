"""Every prepared statement finds its rows by an index, at a hundred thousand events: with the plan for these very
parameters, and with the one for any."""

from __future__ import annotations

import re
from collections.abc import Iterator

import asyncpg
import pytest
from prepared import STATEMENTS
from support.postgres import Postgres, drop_database, fresh_database

from chatkernel.storage.sql.postgres_engine import _settings
from chatkernel.storage.sql.postgres_sql import compiled, packed
from chatkernel.storage.sql.postgres_url import PostgresOptions

pytestmark = pytest.mark.stores

EVENTS, CHANNELS, USERS = 100_000, 50_000, 100_000

# One channel has half of the events.
FILL = f"""
SET session_replication_role = replica;
INSERT INTO users (user_id, username, username_key, display_name, created_at, password_hash)
    SELECT 'u_' || n, 'n' || n, 'n' || n, 'N', n, '' FROM generate_series(1, {USERS}) n;
INSERT INTO devices (device_id, user_id, name, created_at, last_seen_at)
    SELECT 'd_' || n, 'u_' || n, 'd', n, n FROM generate_series(1, {USERS}) n;
INSERT INTO friends (user_id, other_id, state, since)
    SELECT 'u_' || n, 'u_' || n % {USERS} + 1, 'friends', n FROM generate_series(1, {USERS}) n;
INSERT INTO blocks (user_id, other_id, since)
    SELECT 'u_' || n, 'u_' || n % {USERS} + 1, n FROM generate_series(1, {USERS}) n;
INSERT INTO channels (channel_id, kind, name, created_at, head_seq, head_message_id, head_messages)
    SELECT 'c_' || n, 'group', 'x', n, 50, 1000 + n, 50 FROM generate_series(1, {CHANNELS}) n;
INSERT INTO memberships (channel_id, user_id, role, joined_seq, from_seq)
    SELECT 'c_' || n % {CHANNELS} + 1, 'u_' || n % {USERS} + 1, 'member', 1, 0 FROM generate_series(1, 2 * {USERS}) n
    ON CONFLICT DO NOTHING;
INSERT INTO bans (channel_id, user_id, seq)
    SELECT 'c_' || n % {CHANNELS} + 1, 'u_' || n, 1 FROM generate_series(1, {USERS}) n;
INSERT INTO events (channel_id, seq, message_id, kind, sender_id, client_msg_id, created_at, messages_before,
        members_seq, listed, text)
    SELECT 'c_' || c, s, s * 1000, 'message', 'u_' || s % 7, 'm' || s, s, s - 1, 1, s % 10 <> 0, repeat('x', 100)
    FROM (SELECT CASE WHEN n % 2 = 0 THEN 1 ELSE n % {CHANNELS} + 1 END AS c, n AS s
        FROM generate_series(1, {EVENTS}) n) g;
INSERT INTO reactions (channel_id, message_id, emoji, user_id, seq, since_seq, active)
    SELECT 'c_' || n % {CHANNELS} + 1, n * 1000, '+', 'u_' || n % {USERS} + 1, n, n, true
    FROM generate_series(1, {EVENTS}) n;
INSERT INTO edits (channel_id, target_id, seq)
    SELECT 'c_' || n % {CHANNELS} + 1, n * 1000, n FROM generate_series(1, {EVENTS}) n;
ANALYZE;
"""

TEXTS = {
    "channel_id": "c_1", "user_id": "u_3", "sender_id": "u_3", "other_id": "u_3", "id": "u_3", "after": "u_3",
    "client_msg_id": "m20", "emoji": "+", "role": "member",
}  # fmt: skip
NUMBERS = {
    "low": 50_000, "high": 50_100, "end": 1 << 53, "seq": 50_000, "message_id": 50_000_000, "limit": 50, "others": 4,
    "target_id": 50_000_000, "activity_id": 1 << 53, "from_seq": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[str]:
    name = fresh_database(postgres, "template_chat")
    postgres.sql(FILL, name)
    yield postgres.url(name)
    drop_database(postgres, name)


def value(name: str, cast: str) -> object:
    if cast == "text":
        return TEXTS.get(name, "x")
    return False if cast == "boolean" else NUMBERS.get(name, 1)


async def plan(url: str, name: str, mode: str) -> str:
    statement = STATEMENTS[name]
    sql, names = compiled(statement._template, statement._values)
    casts = dict(re.findall(r"\$(\d+)::(\w+)", sql))
    first = 2 if statement._values else 1
    given = [value(name, casts[str(place)]) for place, name in enumerate(names, first)]
    if statement._values:
        types = {column: cast for cast, column in re.findall(r"\)::(\w+) AS (\w+)", sql)}
        row = tuple(value(column, types.get(column, "bigint")) for column in statement._values)
        given.insert(0, packed([row] * 8))
    session = await asyncpg.connect(
        url, server_settings={**_settings(PostgresOptions()), "plan_cache_mode": mode}
    )
    try:
        rows = await session.fetch(f"EXPLAIN {sql}", *given)
    finally:
        await session.close()
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_no_statement_reads_a_whole_table(name: str, mode: str, filled: str) -> None:
    steps = await plan(filled, name, mode)
    assert "Seq Scan" not in steps, steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("history._older", "Index Scan Backward using events_listed"),
        ("history._newer", "Index Scan using events_listed"),
        (
            "history._ranges",
            "Index Cond: ((channel_id = (wanted.channel_id)::text) AND (seq > wanted.low) AND ",
        ),
        ("history._sent", "using events_sent"),
        ("history._seq_at", "events_listed"),
        ("conversation_list._lines", "memberships_of_user"),
        ("conversations._grants_of", "memberships_of_user"),
        ("conversations._channels_of", "memberships_of_user"),
        ("conversations._members", "Index Cond: ((channel_id = 'c_1'::text) AND (user_id > 'u_3'::text))"),
        ("effects._edit", "events_listed"),
        ("effects._forget_edits", "edits_pkey"),
    ],
)
async def test_hot_reads_use_their_index(name: str, index: str, filled: str) -> None:
    steps = await plan(filled, name, "force_custom_plan")
    assert index in steps, steps
    if name.startswith("history._"):
        assert "Sort" not in steps, steps
