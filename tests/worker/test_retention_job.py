"""Retention as a job: each channel by its own setting or the cluster's, in steps that any worker goes on with."""

from __future__ import annotations

import pytest
from contract.channel_log import ChannelLog
from support.joblab import job_lab

from chatkernel.ids import now_ms
from chatkernel.jobs import CLUSTER, new_job
from chatkernel.keys import Keys
from chatkernel.protocol import EventKind
from chatkernel.redis_client import Redis
from chatkernel.storage.model import EventRange, JobKind, JobState
from chatkernel.storage.open import Store
from worker.jobs import retention

DAY_S = 86_400


async def aged(store: Store, old: int, new: int, retention_s: int = 0) -> ChannelLog:
    """A group with so many events from ten days ago, and so many from now."""
    log = ChannelLog(store, start_ms=now_ms() - 10 * DAY_S * 1000)
    await log.create("u_ann", "u_bob")
    if retention_s:
        await log.append(EventKind.RETENTION, "u_ann", retention_s=retention_s)
    await log.say_many("u_ann", old - log.seq)
    log.start_ms = now_ms() - 3_600_000
    if new:
        await log.say_many("u_bob", new)
    return log


async def seqs(store: Store, log: ChannelLog) -> list[int]:
    [found] = await store.events([EventRange(log.channel_id, 0, 100_000)])
    return [event.seq for event in found]


async def test_each_channel_keeps_what_it_or_the_cluster_keeps(
    any_store: Store, redis: Redis, keys: Keys
) -> None:
    plain = await aged(any_store, 5, 3)
    strict = await aged(any_store, 5, 3, retention_s=DAY_S)
    async with job_lab(any_store, redis, keys, keep_s=20 * DAY_S) as lab:
        await lab.runner.step()
    assert await seqs(any_store, plain) == list(range(1, 9))
    assert await seqs(any_store, strict) == [6, 7, 8]
    job = await any_store.job_of(JobKind.RETENTION, CLUSTER)
    assert job is not None and (job.state, job.progress, job.cursor) == (JobState.WAITING, 5, "")
    assert job.run_at > now_ms() + retention.PASS_INTERVAL_S * 900
    # The cluster's setting bounds the channel's, also one that was made before it.
    await any_store.drop_job(job)
    async with job_lab(any_store, redis, keys, keep_s=5 * DAY_S) as lab:
        await lab.runner.step()
    assert await seqs(any_store, plain) == [6, 7, 8]


async def test_nothing_is_removed_where_nothing_is_set(store: Store, redis: Redis, keys: Keys) -> None:
    log = await aged(store, 5, 0)
    async with job_lab(store, redis, keys) as lab:
        await lab.runner.step()
    assert await seqs(store, log) == [1, 2, 3, 4, 5]


async def test_a_round_stops_at_a_batch_and_goes_on_at_the_same_channel(
    any_store: Store, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "EVENTS_PER_BATCH", 40)
    monkeypatch.setattr(retention, "EVENTS_PER_STEP", 20)
    monkeypatch.setattr(retention, "CHANNELS_PER_BATCH", 2)
    logs = [await aged(any_store, 90, 2) for _ in range(3)]
    async with job_lab(any_store, redis, keys, keep_s=DAY_S) as lab:
        await any_store.put_job(new_job(JobKind.RETENTION, CLUSTER, 0))
        claimed = await any_store.claim_job(now_ms(), now_ms() + 10_000)
        assert claimed is not None
        task = lab.runner._tasks[JobKind.RETENTION]
        batches = 0
        while claimed.state is JobState.RUNNING:
            claimed = await task.batch(claimed)
            batches += 1
        assert claimed.progress == 270 and batches > 6
    for log in logs:
        assert await seqs(any_store, log) == [91, 92]
