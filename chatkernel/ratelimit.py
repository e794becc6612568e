"""Rate limits that all pods share: generic cell rate on Redis' clock, and a limiter of our own when Redis is
away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from chatkernel.batching import Coalescer
from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, Script, run_scripts

RETRY_AFTER_FAILURE_S = 1.0
"""After a failure Redis is left alone for this long: nobody's request waits for a time-out meanwhile."""

LOCAL_NAMES_MAX = 20_000
"""Limits that are remembered in the process when Redis is away; beyond it the idle and then the oldest go."""

log = logging.getLogger(__name__)

_SCRIPT = Script("rate_limit")


class _Hit(NamedTuple):
    name: str
    rate_per_s: float
    burst: int
    cost: int


class RateLimiter:
    """Hits that arrive together are one round trip."""

    def __init__(self, redis: Redis, keys: Keys, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._keys, self._monotonic = redis, keys, monotonic
        self._hits: Coalescer[_Hit, float] = Coalescer(self._flush)
        self._away_until = 0.0
        self._away = False
        self._arrivals: dict[str, float] = {}

    async def hit(self, name: str, rate_per_s: float, burst: int, cost: int = 1) -> float:
        """Take `cost` from the limit `name`; 0 when allowed, else the seconds to wait (nothing is taken).

        A cost above the burst is taken as the burst; a negative one gives back. Never raises: while Redis is
        away each process limits by itself, at the same rate.
        """
        return await self._hits.call(_Hit(name, rate_per_s, burst, min(cost, burst)))

    async def _flush(self, hits: Sequence[_Hit]) -> list[float]:
        if self._monotonic() >= self._away_until:
            try:
                waits = await run_scripts(
                    self._redis,
                    [
                        _SCRIPT.call((self._keys.limit(hit.name),), (hit.rate_per_s, hit.burst, hit.cost))
                        for hit in hits
                    ],
                )
            except ChatError as error:
                if not self._away:
                    log.warning("rate limits are local: Redis is away", extra={"error": str(error)})
                self._away, self._away_until = True, self._monotonic() + RETRY_AFTER_FAILURE_S
            else:
                if self._away:
                    log.info("rate limits are shared again")
                    self._away = False
                    self._arrivals.clear()
                return [wait / 1_000_000 for wait in waits]
        return [self._hit_local(hit) for hit in hits]

    def _hit_local(self, hit: _Hit) -> float:
        """The script's arithmetic, in this process."""
        now = self._monotonic()
        arrival = max(now, self._arrivals.pop(hit.name, now))
        after = arrival + hit.cost / hit.rate_per_s
        wait = after - hit.burst / hit.rate_per_s - now
        self._arrivals[hit.name] = arrival if wait > 0 else after
        if len(self._arrivals) > LOCAL_NAMES_MAX:
            self._forget(now)
        return max(0.0, wait)

    def _forget(self, now: float) -> None:
        self._arrivals = {name: arrival for name, arrival in self._arrivals.items() if arrival > now}
        while len(self._arrivals) > LOCAL_NAMES_MAX // 2:
            del self._arrivals[next(iter(self._arrivals))]
