"""Jobs on real worker processes: killed in the middle, two at once, while people go on writing."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest
from contract.channel_log import ChannelLog
from support.cluster import eventually
from support.live import live
from support.valkey import Valkey
from support.worker_process import workers

from chatkernel.ids import now_ms
from chatkernel.jobs import CLUSTER, OPEN, archive_cursor, ask_erasure, ask_export
from chatkernel.protocol import EventKind, Page, Sync
from chatkernel.reading import Reading
from chatkernel.storage.model import Device, EventRange, Job, JobKind, JobState, User
from chatkernel.storage.open import Store, open_store

pytestmark = pytest.mark.slow

DAY_S = 86_400


async def talk(store: Store, *people: str, old: int = 0, new: int = 0) -> ChannelLog:
    """A group where the first of the people wrote so much ten days ago, and so much within this hour."""
    log = ChannelLog(store, start_ms=now_ms() - 10 * DAY_S * 1000)
    await log.create(*people)
    while log.seq < old:
        await log.say_many(people[0], min(200, old - log.seq))
    log.start_ms = now_ms() - 3_600_000 - 1000 * log.seq
    if new:
        await log.say_many(people[0], new)
    return log


async def seqs(store: Store, log: ChannelLog, after: int = 0) -> list[int]:
    [found] = await store.events([EventRange(log.channel_id, after, 1_000_000)])
    return [event.seq for event in found]


async def progressed(store: Store, kind: JobKind, subject: str) -> bool:
    job = await store.job_of(kind, subject)
    return job is not None and job.progress > 0


async def test_retention_goes_on_where_a_killed_worker_stopped_while_people_write(
    own_valkey: Valkey, tmp_path: Path, any_store: Store, any_url: str
) -> None:
    logs = [await talk(any_store, "u_ann", "u_bob", old=1_000, new=5) for _ in range(12)]
    first = await any_store.heads([log.channel_id for log in logs])

    async def write() -> None:
        while True:
            for log in logs:
                await log.say("u_bob", "meanwhile")
            await asyncio.sleep(0.01)

    with workers(own_valkey, tmp_path, 2, any_url, retention_s=DAY_S) as (killed, other):
        other.process.kill()
        writing = asyncio.create_task(write())
        await eventually(lambda: progressed(any_store, JobKind.RETENTION, CLUSTER), 30)
        killed.process.kill()
        killed.process.wait()
        assert not all([(await seqs(any_store, log))[0] == 1_001 for log in logs])
    with workers(own_valkey, tmp_path, 2, any_url, retention_s=DAY_S):

        async def all_gone() -> bool:
            return all([(await seqs(any_store, log))[0] == 1_001 for log in logs])

        await eventually(all_gone, 60)
        writing.cancel()
        await asyncio.wait([writing])
    heads = await any_store.heads([log.channel_id for log in logs])
    for log in logs:
        left = await seqs(any_store, log)
        assert left == list(range(1_001, heads[log.channel_id].seq + 1))
        assert left[-1] > first[log.channel_id].seq
        for cursor in (0, 1, 500, 1_000, 1_001, left[-1]):
            assert await synced(any_store, log, cursor) == [seq for seq in left if seq > cursor]


async def synced(store: Store, log: ChannelLog, cursor: int) -> list[int]:
    """What a device that was away since then gets."""
    reading = Reading(store, store, live())
    got: list[int] = []
    async for page in reading.sync("u_bob", Sync("1", {log.channel_id: cursor})):
        assert isinstance(page, Page)
        got += [event.seq for event in page.events]
        for head in page.heads.values():
            assert head.first_seq == 1_001
    return got


async def test_an_erasure_goes_on_where_a_killed_worker_stopped(
    own_valkey: Valkey, tmp_path: Path, any_store: Store, any_url: str
) -> None:
    for name in ("ann", "bob"):
        await any_store.create_user(User(f"u_{name}", name, name, 1), "hash")
        await any_store.add_device(Device(f"d_{name}", f"u_{name}", "", 1, 1))
    logs = [await talk(any_store, "u_ann", "u_bob", old=1_500, new=5) for _ in range(4)]
    await logs[0].append(EventKind.LEAVE, "u_ann", users=["u_ann"])
    job = await ask_erasure(any_store, "u_ann", now_ms)
    with workers(own_valkey, tmp_path, 1, any_url) as (killed,):
        await eventually(lambda: progressed(any_store, JobKind.ERASE, "u_ann"), 30)
        killed.process.kill()
        killed.process.wait()
    at = await any_store.job(job.job_id)
    assert at is not None and at.state in OPEN
    with workers(own_valkey, tmp_path, 2, any_url) as both:
        ended = await eventually(lambda: _ended(any_store, job), 90)
        assert ended.state is JobState.DONE
        stats = [(await worker.get("/statz"))[1] for worker in both]
        assert sum(each["jobs_ended"].get("erase:done", 0) for each in stats) == 1
    for log in logs:
        [events] = await any_store.events([EventRange(log.channel_id, 0, 10_000)])
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert not any(event.text for event in events)
        assert len([event for event in events if event.kind is EventKind.ERASE]) == 1
        assert [member.user_id for member in await any_store.members(log.channel_id)] == ["u_bob"]
    assert (await any_store.users(["u_ann", "u_bob"])).keys() == {"u_bob"}


async def _ended(store: Store, job: Job) -> Job | None:
    found = await store.job(job.job_id)
    return found if found is not None and found.state in (JobState.DONE, JobState.FAILED) else None


async def test_an_export_is_whole_though_its_worker_was_killed(
    own_valkey: Valkey, tmp_path: Path, any_store: Store, any_url: str
) -> None:
    await any_store.create_user(User("u_ann", "ann", "ann", 1), "hash")
    logs = [await talk(any_store, "u_ann", "u_bob", old=3_000, new=5) for _ in range(4)]
    job, _ = await ask_export(any_store, "u_ann", now_ms)

    async def some() -> bool:
        found = await any_store.job(job.job_id)
        return found is not None and len(archive_cursor(found).runs) > 0 and "history" in found.cursor

    with workers(own_valkey, tmp_path, 1, any_url) as (killed,):
        await eventually(some, 30, 0.005)
        killed.process.kill()
        killed.process.wait()
    with workers(own_valkey, tmp_path, 2, any_url):
        ended = await eventually(lambda: _ended(any_store, job), 60)
    assert ended.state is JobState.DONE
    data = b""
    for attempt, count in archive_cursor(ended).runs:
        for number in range(count):
            data += await any_store.chunk(ended.job_id, attempt, number) or b""
    found: dict[str, list[int]] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            if member.name.startswith("history/"):
                content = tar.extractfile(member)
                assert content is not None
                items = [json.loads(line) for line in content.read().splitlines()]
                found.setdefault(member.name.split("/")[1], []).extend(item["event"]["seq"] for item in items)
    assert {log.channel_id: found.get(log.channel_id) for log in logs} == {
        log.channel_id: list(range(1, 3_006)) for log in logs
    }


async def test_while_redis_is_away_an_erasure_waits_says_so_and_ends_by_itself(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/chat.db")
    await store.ensure_schema()
    await store.create_user(User("u_ann", "ann", "ann", 1), "hash")
    log = await talk(store, "u_ann", "u_bob", old=3)
    job = await ask_erasure(store, "u_ann", now_ms)
    own_valkey.kill()
    with workers(own_valkey, tmp_path) as (worker,):

        async def waits() -> bool:
            try:
                degraded = (await worker.get("/readyz"))[1]["degraded"]
            except OSError:
                return False
            found = await store.job(job.job_id)
            assert found is not None
            return "job:erase" in degraded and (found.state, found.error) == (
                JobState.WAITING,
                "redis_unavailable",
            )

        await eventually(waits, 30)
        assert await store.users(["u_ann"]) == {}  # what needs no Redis is done
        own_valkey.start()
        ended = await eventually(lambda: _ended(store, job), 90)
        assert (ended.state, ended.failures, ended.error) == (JobState.DONE, 0, "")
        assert "job:erase" not in (await worker.get("/readyz"))[1]["degraded"]
    [events] = await store.events([EventRange(log.channel_id, 0, 100)])
    assert not any(event.text for event in events)
    await store.aclose()
