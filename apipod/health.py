"""Whether this pod lives, may serve, and what it lacks."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable

from msgspec import Struct

from chatkernel.errors import ChatError
from chatkernel.redis_client import execute
from chatkernel.wiring import Kernel

PROBE_TIMEOUT_S = 1.0
PROBE_KEPT_S = 60


class Live(Struct, frozen=True):
    live: bool = True


class Ready(Struct, frozen=True):
    """`degraded` names what is away while requests are still served. `pod` tells two on one port apart."""

    pod: str
    ready: bool
    degraded: list[str]


class Stats(Struct, frozen=True):
    pod: str
    revision: str
    requests: int
    errors: int
    """Answers of 500 and above."""
    rss_kib: int
    cpu_s: float
    uptime_s: float
    degraded: list[str]


class Health:
    """Asks the store and Redis, both at once and not for long."""

    def __init__(self, kernel: Kernel, monotonic: Callable[[], float]) -> None:
        self._kernel, self._monotonic = kernel, monotonic
        self._started = monotonic()

    async def ready(self) -> Ready:
        store, redis_answers = await asyncio.gather(self._store_answers(), self._redis_answers())
        return Ready(self._kernel.settings.pod, store, [] if redis_answers else ["redis"])

    def uptime_s(self) -> float:
        return round(self._monotonic() - self._started, 3)

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._kernel.store.check()
        except (ChatError, TimeoutError):
            return False
        return True

    async def _redis_answers(self) -> bool:
        try:
            # PING asks every node of a cluster; SET, whether there is room for more.
            probe = ("SET", self._kernel.keys.probe, 1, "EX", PROBE_KEPT_S)
            await execute(self._kernel.redis, [("PING",), probe], PROBE_TIMEOUT_S)
        except ChatError:
            return False
        return True


def rss_kib() -> int:
    """Resident memory now where the system tells (Linux), else its peak."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - read on a hot-ish path, no Path needed
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
