"""A store from before retention and jobs is brought up, and has everything still."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from channel_log import START_MS, ChannelLog

from chatkernel.message_ids import message_id_at
from chatkernel.storage.model import EventRange, Job, JobKind
from chatkernel.storage.sql import open_sql


async def test_a_store_of_version_3_is_brought_up_and_can_expire_and_keep_jobs(tmp_path: Path) -> None:
    store = await open_sql(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 3)
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other:
        for table in ("jobs", "job_chunks", "erased"):
            other.execute(f"DROP TABLE {table}")
        for column in ("floor_seq", "floor_messages", "retention_s"):
            other.execute(f"ALTER TABLE channels DROP COLUMN {column}")
        other.execute("UPDATE schema_version SET version = 3")
    await store.ensure_schema()
    await store.check()
    assert (await store.expire(log.channel_id, message_id_at(START_MS + 3_000), 10)).floor_seq == 2
    [left] = await store.events([EventRange(log.channel_id, 0, 10)])
    assert [event.seq for event in left] == [3, 4]
    job = Job("j_1", JobKind.EXPORT, "u_ann", START_MS)
    assert await store.put_job(job) == job
    await log.say("u_bob", "hi")
    await store.aclose()
