"""What a worker has to do jobs with, in the test's own process: a real store and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.live import live

from chatkernel.appender import Appender
from chatkernel.bus import Bus
from chatkernel.ids import now_ms
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.protocol import Event, Limits, encode_json
from chatkernel.publisher import Publisher
from chatkernel.redis_client import Redis
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings
from chatkernel.storage.model import EventRange, Job, JobKind, JobState
from chatkernel.storage.store import Store
from chatkernel.wiring import post_of
from worker.jobs.erasure import Erasure
from worker.jobs.export import Export
from worker.jobs.retention import Retention
from worker.jobs.runner import JobRunner, Task

LEASE_S = 0.2


class JobLab:
    """The parts of one worker."""

    def __init__(
        self, store: Store, redis: Redis, keys: Keys, name: str, keep_s: int, max_bytes: int
    ) -> None:
        self.store, self.ahead_ms = store, 0
        self.bus = Bus(redis, keys, Routes(redis, keys, ""), "")
        self.publisher = Publisher(self.bus, Intents(redis, keys, name))
        self.appender = Appender(
            store, store, now_ms, before_insert=self.publisher.begin, on_stored=self._stored
        )
        self.presence = PresenceStore(redis, keys, PresenceSettings())
        tasks: dict[JobKind, Task] = {
            JobKind.RETENTION: Retention(store, keep_s, self.now),
            JobKind.ERASE: Erasure(
                store, self.appender, self.bus, self.presence, now=self.now, settle_s=0.05
            ),
            JobKind.EXPORT: Export(store, self.bus, live(Limits(export_max_bytes=max_bytes)), self.now),
        }
        self.runner = JobRunner(store, tasks, lease_s=LEASE_S, now=self.now)

    def now(self) -> int:
        return now_ms() + self.ahead_ms

    def _stored(self, events: list[Event]) -> None:
        self.publisher.publish([post_of(event, encode_json(event)) for event in events])

    async def until_ended(self, job_id: str, within_s: float = 20.0) -> Job:
        """Steps until the job has ended."""
        async with asyncio.timeout(within_s):
            while True:
                await self.runner.step()
                job = await self.store.job(job_id)
                assert job is not None
                if job.state in (JobState.DONE, JobState.FAILED):
                    return job
                await asyncio.sleep(0.01)

    async def log(self, channel_id: str) -> list[Event]:
        [events] = await self.store.events([EventRange(channel_id, 0, 1_000_000)])
        return events


@asynccontextmanager
async def job_lab(
    store: Store, redis: Redis, keys: Keys, *, name: str = "worker", keep_s: int = 0, max_bytes: int = 1 << 30
) -> AsyncIterator[JobLab]:
    lab = JobLab(store, redis, keys, name, keep_s, max_bytes)
    lab.publisher.start()
    try:
        yield lab
    finally:
        await lab.appender.aclose()
        await lab.publisher.aclose()
