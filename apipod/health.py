"""Whether this pod lives, may serve, and what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from chatkernel.errors import ChatError
from chatkernel.redis_client import execute
from chatkernel.wiring import Kernel

PROBE_WAIT_S = 0.6
"""How long an answer waits for a probe. Whoever asks gives up after a second: a pod that says nothing is taken for
dead and replaced, when it is only its store that stands still."""
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


class Probe:
    """Asks something that may hang, once at a time: who asks meanwhile waits for the same answer, but not long."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._ask = ask
        self._task: asyncio.Task[bool] | None = None

    async def answers(self) -> bool:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._try())
        done, _ = await asyncio.wait({self._task}, timeout=PROBE_WAIT_S)
        return bool(done) and self._task.result()

    async def _try(self) -> bool:
        try:
            await self._ask()
        except ChatError:
            return False
        return True


class Health:
    """Asks the store and Redis, both at once and not for long."""

    def __init__(self, kernel: Kernel, monotonic: Callable[[], float]) -> None:
        self._kernel, self._monotonic = kernel, monotonic
        self._started = monotonic()
        self._store, self._redis = Probe(self._ask_store), Probe(self._ask_redis)

    async def ready(self) -> Ready:
        store, redis_answers = await asyncio.gather(self._store.answers(), self._redis.answers())
        return Ready(self._kernel.settings.pod, store, [] if redis_answers else ["redis"])

    def uptime_s(self) -> float:
        return round(self._monotonic() - self._started, 3)

    async def _ask_store(self) -> None:
        await self._kernel.store.check()

    async def _ask_redis(self) -> None:
        # PING asks every node of a cluster; SET, whether there is room for more.
        probe = ("SET", self._kernel.keys.probe, 1, "EX", PROBE_KEPT_S)
        await execute(self._kernel.redis, [("PING",), probe], PROBE_WAIT_S)
