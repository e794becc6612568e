"""The worker's parts put together: its loops, and how they begin and end."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from chatkernel.appender import Appender
from chatkernel.bus import Bus
from chatkernel.ids import now_ms
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.live import Live, LiveFile
from chatkernel.metrics import rss_kib
from chatkernel.presence import PresenceStore
from chatkernel.protocol import Event, encode_json
from chatkernel.publisher import Publisher
from chatkernel.redis_client import Redis, connect
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from chatkernel.settings import ServiceSettings
from chatkernel.storage.model import JobKind
from chatkernel.storage.open import open_store
from chatkernel.storage.store import Store
from chatkernel.wiring import post_of
from worker.jobs.erasure import Erasure
from worker.jobs.export import Export
from worker.jobs.retention import Retention
from worker.jobs.runner import JOBS_INTERVAL_S, JobRunner, Task
from worker.loops import Loop, Outages
from worker.orphans import LOOK_INTERVAL_S, Orphans
from worker.presence_sweep import SWEEP_INTERVAL_S, PresenceSweep
from worker.reaper import REAP_INTERVAL_S, Reaper


class Stats(Struct, frozen=True):
    """`GET /statz`. `degraded` names what is away (`redis`, `store`), work that failed (`fault:reaper`), or a kind of
    job whose last batch failed (`job:erase`)."""

    pod: str
    revision: str
    reaped: int
    """Dead pods cleared away."""
    poked: int
    """Channels of theirs that were looked at."""
    swept: int
    """People who went offline by their leases running out."""
    batches: dict[str, int]
    """Of jobs, by kind."""
    jobs_ended: dict[str, int]
    """By kind and state, as `erase:done`."""
    expired: int
    """Events that retention removed."""
    blanked: int
    """Events of erased people that became tombstones."""
    steps: dict[str, int]
    rss_kib: int
    cpu_s: float
    degraded: list[str]


class Work:
    """Owns the loops' tasks."""

    def __init__(self, settings: ServiceSettings, redis: Redis, store: Store) -> None:
        self._settings = settings
        live = Live(settings.live)
        self.live_file = LiveFile(Path(settings.live_file), live) if settings.live_file else None
        keys = Keys(settings.key_prefix, settings.cluster)
        registry, routes = Registry(redis, keys), Routes(redis, keys, "")
        intents, bus = Intents(redis, keys, ""), Bus(redis, keys, routes, "")
        self.reaper = Reaper(
            registry, routes, intents, bus, lease_s=settings.lease_s, monotonic=time.monotonic
        )
        self.orphans = Orphans(registry, intents, bus, routes)
        presence = PresenceStore(redis, keys, settings.presence)
        self.sweep = PresenceSweep(presence, bus, store, store)
        # Under this worker's name: should it die between storing and telling, the orphans' loop looks.
        self._publisher = Publisher(bus, Intents(redis, keys, settings.pod))
        self._appender = Appender(
            store, store, now_ms, before_insert=self._publisher.begin, on_stored=self._stored
        )
        self.retention = Retention(store, settings.retention_s, now_ms)
        self.erasure = Erasure(store, self._appender, bus, presence, now=now_ms)
        export = Export(store, bus, live, now_ms)
        tasks: dict[JobKind, Task] = {
            JobKind.RETENTION: self.retention,
            JobKind.ERASE: self.erasure,
            JobKind.EXPORT: export,
        }
        self.jobs = JobRunner(store, tasks, lease_s=settings.lease_s, now=now_ms)
        self._outages = Outages()
        self._loops = [
            Loop("reaper", REAP_INTERVAL_S, self.reaper.step, self._outages),
            Loop("orphans", LOOK_INTERVAL_S, self.orphans.step, self._outages),
            Loop("presence", SWEEP_INTERVAL_S, self.sweep.step, self._outages),
            Loop("jobs", JOBS_INTERVAL_S, self.jobs.step, self._outages),
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def degraded(self) -> list[str]:
        """`redis`, `store`, `fault:` and the loop's name, or `job:` and the kind."""
        return [*self._outages.names(), *(f"job:{kind}" for kind in sorted(self.jobs.failing))]

    def stats(self) -> Stats:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Stats(
            pod=self._settings.pod,
            revision=self._settings.revision,
            reaped=self.reaper.reaped,
            poked=self.reaper.poked + self.orphans.poked,
            swept=self.sweep.swept,
            batches=dict(self.jobs.batches),
            jobs_ended=dict(self.jobs.ended),
            expired=self.retention.removed,
            blanked=self.erasure.blanked,
            steps={loop.name: loop.steps for loop in self._loops},
            rss_kib=rss_kib(),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            degraded=self.degraded(),
        )

    def _stored(self, events: list[Event]) -> None:
        self._publisher.publish([post_of(event, encode_json(event)) for event in events])

    def start(self) -> None:
        self._publisher.start()
        self._tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in self._loops]
        if self.live_file is not None:
            self._tasks.append(asyncio.create_task(self.live_file.run(), name="live-settings"))

    async def stop(self) -> None:
        """Whatever is under way may be cut anywhere: the next round of any worker takes it up again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._appender.aclose()
        await self._publisher.aclose()


@asynccontextmanager
async def working(settings: ServiceSettings) -> AsyncIterator[Work]:
    """Opens the store and Redis, and runs the loops. Raises ChatError when the store cannot be opened; Redis
    may be away."""
    store = await open_store(settings.store_url)
    redis = connect(settings.redis_url)
    try:
        await store.check()
        work = Work(settings, redis, store)
        work.start()
        try:
            yield work
        finally:
            await work.stop()
    finally:
        await redis.aclose()
        await store.aclose()
