"""The worker's parts put together: its loops, and how they begin and end."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from chatkernel.bus import Bus
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.redis_client import Redis, connect
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from chatkernel.settings import ServiceSettings
from chatkernel.storage.directory import Accounts, People
from chatkernel.storage.open import open_store
from worker.loops import Loop, Outages
from worker.orphans import LOOK_INTERVAL_S, Orphans
from worker.presence_sweep import SWEEP_INTERVAL_S, PresenceSweep
from worker.reaper import REAP_INTERVAL_S, Reaper


class Stats(Struct, frozen=True):
    """`GET /statz`. `degraded` names what is away (`redis`, `store`) or work that failed (`fault:reaper`)."""

    pod: str
    revision: str
    reaped: int
    """Dead pods cleared away."""
    poked: int
    """Channels of theirs that were looked at."""
    swept: int
    """People who went offline by their leases running out."""
    steps: dict[str, int]
    rss_kib: int
    cpu_s: float
    degraded: list[str]


class Work:
    """Owns the loops' tasks."""

    def __init__(self, settings: ServiceSettings, redis: Redis, accounts: Accounts, people: People) -> None:
        self._settings = settings
        keys = Keys(settings.key_prefix, settings.cluster)
        registry, routes = Registry(redis, keys), Routes(redis, keys, "")
        intents, bus = Intents(redis, keys, ""), Bus(redis, keys, routes, "")
        self.reaper = Reaper(
            registry, routes, intents, bus, lease_s=settings.lease_s, monotonic=time.monotonic
        )
        self.orphans = Orphans(registry, intents, bus)
        self.sweep = PresenceSweep(PresenceStore(redis, keys, settings.presence), bus, accounts, people)
        self._outages = Outages()
        self._loops = [
            Loop("reaper", REAP_INTERVAL_S, self.reaper.step, self._outages),
            Loop("orphans", LOOK_INTERVAL_S, self.orphans.step, self._outages),
            Loop("presence", SWEEP_INTERVAL_S, self.sweep.step, self._outages),
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def degraded(self) -> list[str]:
        """`redis`, `store`, or `fault:` and the loop's name."""
        return self._outages.names()

    def stats(self) -> Stats:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return Stats(
            pod=self._settings.pod,
            revision=self._settings.revision,
            reaped=self.reaper.reaped,
            poked=self.reaper.poked + self.orphans.poked,
            swept=self.sweep.swept,
            steps={loop.name: loop.steps for loop in self._loops},
            rss_kib=_rss_kib(usage),
            cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
            degraded=self.degraded(),
        )

    def start(self) -> None:
        self._tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in self._loops]

    async def stop(self) -> None:
        """Whatever is under way may be cut anywhere: the next round of any worker takes it up again."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _rss_kib(usage: resource.struct_rusage) -> int:
    """Now where the system tells (Linux), else at most."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return usage.ru_maxrss


@asynccontextmanager
async def working(settings: ServiceSettings) -> AsyncIterator[Work]:
    """Opens the store and Redis, and runs the loops. Raises ChatError when the store cannot be opened; Redis
    may be away."""
    store = await open_store(settings.store_url)
    redis = connect(settings.redis_url)
    try:
        await store.check()
        work = Work(settings, redis, store, store)
        work.start()
        try:
            yield work
        finally:
            await work.stop()
    finally:
        await redis.aclose()
        await store.aclose()
