"""PostgreSQL: a cluster of the bench's own in the cache, a database per data set."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from support.postgres import Postgres

from bench.storage.calls import verify
from bench.storage.shape import Shape, Stream
from bench.storage.store import Measured, begin, kept, room_for
from chatkernel.storage.sql.append import _insert_events, _row

_BYTES_PER_EVENT = 900
_SETTINGS = {
    # A quarter of the machine, as its documentation has it.
    "shared_buffers": f"{min(psutil.virtual_memory().total // 4, 6 << 30) >> 20}MB",
    "max_wal_size": "4GB",
    # The image of a page after a checkpoint, smaller.
    "wal_compression": "on",
}
_WORK, _MADE = "work", "made_"
_WARM = (
    "CREATE EXTENSION IF NOT EXISTS pg_prewarm; SELECT sum(pg_prewarm(oid)) FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
)
"""Into shared_buffers, as far as it fits: a server in service has what was read lately in its memory."""
_FOLLOW = (
    "UPDATE channels c SET head_seq = f.seq, head_message_id = f.message_id, head_messages = f.messages,"
    " message_seq = f.message_seq FROM followed f WHERE c.channel_id = f.channel_id",
    "UPDATE memberships m SET read_seq = r.seq, delivered_seq = r.seq, read_messages = r.messages"
    " FROM reading r WHERE m.channel_id = r.channel_id AND m.user_id = r.user_id",
)


class PostgresMeasured(Measured):
    name = "postgres"

    def __init__(self, cache: Path, shape: Shape) -> None:
        self._folder = kept(cache, self.name, [load, _follow, _row])
        self._shape = shape
        self._server = Postgres(self._folder)
        if not (self._server.data / "PG_VERSION").exists():
            self._server.create()
        self._server.start(**_SETTINGS)
        version = self._server.sql("SHOW server_version")
        self.words = f"PostgreSQL {version}, fsync, shared_buffers={_SETTINGS['shared_buffers']}, by asyncpg"
        self._drop(_WORK)

    async def prepare(self, size: int) -> float:
        if self._has(f"{_MADE}{size}"):
            return 0.0
        room_for(self._folder, size, _BYTES_PER_EVENT)
        started, half = time.monotonic(), f"half_{size}"
        self._drop(half)
        self._server.sql(f"CREATE DATABASE {half}")
        url = self._server.url(half)
        await verify(url, self._shape, await load(url, self._shape, size))
        # As autovacuum does in time.
        self._server.sql("VACUUM ANALYZE", half)
        self._server.sql("CHECKPOINT")
        self._server.sql(f"ALTER DATABASE {half} RENAME TO {_MADE}{size}")
        return time.monotonic() - started

    @contextmanager
    def copy(self, size: int) -> Iterator[str]:
        files = " STRATEGY FILE_COPY" if int(self._server.sql("SHOW server_version_num")) >= 150000 else ""
        self._server.sql(f"CREATE DATABASE {_WORK} TEMPLATE {_MADE}{size}{files}")
        self._server.sql("CHECKPOINT")
        self._server.sql(_WARM, _WORK)
        try:
            yield self._server.url(_WORK)
        finally:
            self._drop(_WORK)

    def disk_bytes(self, size: int) -> int:
        return int(self._server.sql(f"SELECT pg_database_size('{_MADE}{size}')"))

    def sessions(self, settings: Sequence[str]) -> None:
        """For new sessions in the copy: these settings, and none of before."""
        self._server.sql(f"ALTER DATABASE {_WORK} RESET ALL")
        for setting in settings:
            self._server.sql(f"ALTER DATABASE {_WORK} SET {setting}")

    def processes(self) -> Iterable[psutil.Process]:
        return self._server._processes()

    def close(self) -> None:
        self._server.stop()

    def _has(self, database: str) -> bool:
        return self._server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{database}'") == "1"

    def _drop(self, database: str) -> None:
        self._server.sql(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


async def load(url: str, shape: Shape, size: int) -> Stream:
    """Tables as `ensure_schema` makes them, with their indexes in place; triggers do not fire meanwhile."""
    await begin(url, shape)
    stream = Stream(shape, size)
    raw = await asyncpg.connect(url, server_settings={"session_replication_role": "replica"})
    try:
        rows = (_row(event) for event in stream.events())
        await raw.copy_records_to_table("events", records=rows, columns=_insert_events._values, timeout=None)
        await _follow(raw, shape, stream)
    finally:
        await raw.close()
    return stream


async def _follow(raw: asyncpg.Connection[Any], shape: Shape, stream: Stream) -> None:
    """What the trigger and the adapter would have done."""
    pairs = list(zip(shape.ids, stream.states, strict=True))
    await raw.execute(
        "CREATE TEMP TABLE followed (channel_id text, seq bigint, message_id bigint, messages bigint,"
        " message_seq bigint); CREATE TEMP TABLE reading (channel_id text, user_id text, seq bigint,"
        " messages bigint)"
    )
    await raw.copy_records_to_table(
        "followed",
        records=[(c, state.seq, state.message_id, state.messages, state.message_seq) for c, state in pairs],
    )
    await raw.copy_records_to_table(
        "reading", records=[(c, user, *read) for c, state in pairs for user, read in state.read.items()]
    )
    for statement in _FOLLOW:
        await raw.execute(statement, timeout=600)
    await raw.copy_records_to_table(
        "reactions",
        records=(
            (r.channel_id, r.message_id, r.emoji, r.user_id, r.seq, r.seq, True) for r in stream.reactions
        ),
        columns=("channel_id", "message_id", "emoji", "user_id", "seq", "since_seq", "active"),
    )
