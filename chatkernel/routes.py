"""Routes: which pods want what is addressed to a channel, a user, or the watchers of a user.

A route is `c:`, `u:` or `w:` and an id; in Redis it is a set of pod names, and each pod has the set of its
routes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute, scan
from chatkernel.redis_link import Command

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""After a flush that failed, unless a caller comes sooner."""

COMMANDS_MAX = 1_000
"""Commands per round trip: a person with thousands of channels is written in several."""

REVERSE_MAX = 500
"""Members per command on a pod's own set."""


def routes_of(channels: Iterable[str], users: Iterable[str], watched: Iterable[str]) -> list[str]:
    """The names of routes, in that order."""
    return [
        *[f"c:{channel}" for channel in channels],
        *[f"u:{user}" for user in users],
        *[f"w:{user}" for user in watched],
    ]


class Routes:
    """Owns one pod's routes: what it wants, and what of that is in Redis.

    The state wanted is written, not the steps to it: a flush looks at what is wanted at that moment, and
    flushes run one after the other. So a last-out that meets the first-in of the same channel cannot end the
    wrong way round, whichever of the two reaches Redis first or fails. Callers that arrive together share a
    round trip. What could not be written is tried again until it is.
    """

    def __init__(self, redis: Redis, keys: Keys, pod: str) -> None:
        self._redis, self._keys, self._pod = redis, keys, pod
        self._wanted: set[str] = set()
        self._written: set[str] = set()
        """Routes that are in Redis for sure. A route leaves this before its removal is sent."""
        self._dirty: set[str] = set()
        self._generation = 0
        """Counts `reassert`: what a flush began before it wrote may be gone from Redis."""
        self._waiting: list[asyncio.Future[None]] = []
        self._called = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._wanted)

    async def add(
        self, *, channels: Iterable[str] = (), users: Iterable[str] = (), watched: Iterable[str] = ()
    ) -> None:
        """What is addressed to these reaches this pod once this returns. Raises ChatError(REDIS_UNAVAILABLE):
        they are wanted all the same, and written as soon as Redis answers."""
        routes = routes_of(channels, users, watched)
        self._wanted.update(routes)
        missing = [route for route in routes if route not in self._written]
        if missing:
            self._dirty.update(missing)
            await self._flushed()

    async def remove(
        self, *, channels: Iterable[str] = (), users: Iterable[str] = (), watched: Iterable[str] = ()
    ) -> None:
        """Raises ChatError(REDIS_UNAVAILABLE): they are removed all the same, as soon as Redis answers."""
        routes = routes_of(channels, users, watched)
        self._wanted.difference_update(routes)
        if routes:
            self._dirty.update(routes)
            await self._flushed()

    async def reassert(self) -> None:
        """Make Redis agree with what is wanted, whatever is there: after Redis was emptied, after an outage,
        and at the start of a run (it clears what an earlier run of the same name left). Raises ChatError."""
        present = await self._routes_of(self._pod)
        self._generation += 1
        self._written.clear()
        self._dirty |= self._wanted | present
        if self._dirty:
            await self._flushed()

    async def resolve(
        self, channels: Iterable[str], users: Iterable[str] = (), watched: Iterable[str] = ()
    ) -> list[set[str]]:
        """The pods of each, in that order, in one round trip. Raises ChatError(REDIS_UNAVAILABLE)."""
        routes = routes_of(channels, users, watched)
        if not routes:
            return []
        found = await execute(self._redis, [("SMEMBERS", self._keys.route(route)) for route in routes])
        return [{pod.decode() for pod in pods} for pods in found]

    async def reap(self, pod: str) -> None:
        """Clear a dead pod's routes and stream. Idempotent; safe with several reapers.

        If the pod lives after all, or a new run of its name is just registering, the wrong routes may go; but
        its stream goes after them, and a pod that loses its stream notices (`Bus.read`) and writes its routes
        anew.
        """
        routes = sorted(await self._routes_of(pod))
        for start in range(0, len(routes), COMMANDS_MAX):
            part = routes[start : start + COMMANDS_MAX]
            await execute(self._redis, [("SREM", self._keys.route(route), pod) for route in part])
        await execute(self._redis, [("UNLINK", self._keys.pod_routes(pod), self._keys.stream(pod))])

    async def aclose(self) -> None:
        """Stop trying: what is not written is left to the reaper."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _routes_of(self, pod: str) -> set[str]:
        steps = scan(self._redis, "SSCAN", self._keys.pod_routes(pod))
        return {route.decode() async for found in steps for route in found}

    async def _flushed(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._called.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="routes")
        await future

    async def _run(self) -> None:
        try:
            while self._waiting or self._dirty:
                self._called.clear()
                waiting, self._waiting = self._waiting, []
                dirty, self._dirty = self._dirty, set()
                try:
                    await self._flush(dirty)
                except Exception as error:
                    self._dirty |= dirty
                    _finish(waiting, error)
                    if not isinstance(error, ChatError):
                        log.exception("routes not written", extra={"routes": len(dirty)})
                    with suppress(TimeoutError):
                        async with asyncio.timeout(RETRY_S):
                            await self._called.wait()
                except BaseException:
                    self._dirty |= dirty
                    for future in waiting:
                        future.cancel()
                    raise
                else:
                    _finish(waiting, None)
        finally:
            self._task = None

    async def _flush(self, dirty: set[str]) -> None:
        adds = [route for route in dirty if route in self._wanted]
        removes = [route for route in dirty if route not in self._wanted]
        self._written.difference_update(removes)
        generation = self._generation
        own = self._keys.pod_routes(self._pod)
        # The pod's own set is written before the routes and cleared after them: it always covers what is
        # there, so that a pod that dies in the middle leaves nothing a reaper cannot find. They are waited for one
        # after the other, for in a cluster they are on different nodes.
        first: list[Command] = [("SADD", own, *part) for part in _parts(adds)]
        then: list[Command] = [("SADD", self._keys.route(route), self._pod) for route in adds]
        then += [("SREM", self._keys.route(route), self._pod) for route in removes]
        last: list[Command] = [("SREM", own, *part) for part in _parts(removes)]
        for commands in (first, then, last):
            for start in range(0, len(commands), COMMANDS_MAX):
                await execute(self._redis, commands[start : start + COMMANDS_MAX])
        if generation == self._generation:
            self._written.update(adds)


def _parts(routes: Sequence[str]) -> list[Sequence[str]]:
    return [routes[start : start + REVERSE_MAX] for start in range(0, len(routes), REVERSE_MAX)]


def _finish(waiting: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
