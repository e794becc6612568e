"""Routes: which pods want what is addressed to a channel, a user, or the watchers of a user.

A route is `c:`, `u:` or `w:` and an id; in Redis it is a set of pod names, and each pod has the set of its
routes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute, execute_each, scan
from chatkernel.redis_link import Command

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""After a flush that failed, unless a caller comes sooner."""

COMMANDS_MAX = 1_000
"""Commands per round trip: a person with thousands of channels is written in several."""

REVERSE_MAX = 500
"""Members per command on a pod's own set."""

AUDIT_INTERVAL_S = 2.0
AUDIT_MIN = 16
"""Routes written again per audit at least: of three nodes one that was emptied is all but sure to have had some of
them."""
AUDIT_ROUND_S = 3_600.0
"""Within this all have been."""


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
        """Routes that are in Redis as far as we know. A route leaves this before its removal is sent."""
        self._dirty: set[str] = set()
        self._stale: set[str] = set()
        """To be written again, after what somebody waits for."""
        self._failed: set[str] = set()
        """Could not be written, and wait a moment."""
        self._generation = 0
        """Counts `reassert`: what a flush began before it wrote may be gone from Redis."""
        self._losses_seen = redis.losses
        self._to_audit: list[str] = []
        self._missed = 0
        """Routes that were found gone."""
        self._waiting: list[_Waiting] = []
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
            await self._flushed(missing)

    async def remove(
        self, *, channels: Iterable[str] = (), users: Iterable[str] = (), watched: Iterable[str] = ()
    ) -> None:
        """Raises ChatError(REDIS_UNAVAILABLE): they are removed all the same, as soon as Redis answers."""
        routes = routes_of(channels, users, watched)
        self._wanted.difference_update(routes)
        if routes:
            self._dirty.update(routes)
            await self._flushed(routes)

    async def reassert(self) -> None:
        """Make Redis agree with what is wanted, whatever is there: after Redis was emptied, after an outage,
        and at the start of a run (it clears what an earlier run of the same name left). What is on a node of a
        cluster that is away is written as soon as it is back. Raises ChatError when the pod's own set cannot be
        written, and so nothing is."""
        losses = self._redis.losses
        # Not waited for to be right: it is written again with the next one.
        await execute_each(self._redis, [("SADD", self._keys.owners, self._pod)])
        present = await self._routes_of(self._pod)
        self._generation += 1
        self._written.clear()
        self._stale |= self._wanted | present
        while self._stale:
            await self._flushed(())
        self._losses_seen = losses

    async def keep(self, on_rewritten: Callable[[], None]) -> None:
        """Audit, for ever. `on_rewritten`: routes were missing for a while, and are there again."""
        was_behind = False
        while True:
            await asyncio.sleep(AUDIT_INTERVAL_S)
            try:
                rewritten = await self.audit()
            except ChatError as error:
                log.debug("routes wait for redis", extra={"error": str(error)})
                was_behind = True
                continue
            is_behind = bool(self._failed)
            if rewritten or (was_behind and not is_behind):
                on_rewritten()
            was_behind = is_behind

    async def audit(self) -> bool:
        """Write some routes again, and all of them if one was gone, or if a connection was lost: a node of a cluster
        may have been emptied, or replaced by one that had not got everything, and tells nobody. Whether all were
        written. Raises ChatError."""
        if self._losses_seen == self._redis.losses:
            if not self._to_audit:
                self._to_audit = list(self._wanted)
            share = max(AUDIT_MIN, math.ceil(len(self._wanted) * AUDIT_INTERVAL_S / AUDIT_ROUND_S))
            some = [route for route in self._to_audit[-share:] if route in self._wanted]
            del self._to_audit[-share:]
            if not some:
                return False
            missed = self._missed
            self._stale.update(some)
            await self._flushed(())
            if missed == self._missed:
                return False
            log.warning("routes were lost")
        await self.reassert()
        return True

    async def resolve(
        self, channels: Iterable[str], users: Iterable[str] = (), watched: Iterable[str] = ()
    ) -> list[set[str] | ChatError]:
        """The pods of each, in that order, in one round trip per COMMANDS_MAX; the error (REDIS_UNAVAILABLE) of each
        that cannot be read."""
        routes = routes_of(channels, users, watched)
        resolved: list[set[str] | ChatError] = []
        for start in range(0, len(routes), COMMANDS_MAX):
            part = routes[start : start + COMMANDS_MAX]
            found = await execute_each(self._redis, [("SMEMBERS", self._keys.route(route)) for route in part])
            resolved += [
                pods if isinstance(pods, ChatError) else {pod.decode() for pod in pods} for pods in found
            ]
        return resolved

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

    async def is_read(self, pod: str) -> bool:
        """Whether somebody reads the pod's stream, or did within STREAM_KEPT_S."""
        (there,) = await execute(self._redis, [("EXISTS", self._keys.stream(pod))])
        return bool(there)

    async def aclose(self) -> None:
        """Stop trying: what is not written is left to the reaper."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _routes_of(self, pod: str) -> set[str]:
        steps = scan(self._redis, "SSCAN", self._keys.pod_routes(pod))
        return {route.decode() async for found in steps for route in found}

    async def _flushed(self, routes: Collection[str]) -> None:
        """Raises ChatError when none could be written, or one of these could not."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(future, routes))
        self._called.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="routes")
        await future

    async def _run(self) -> None:
        try:
            while self._waiting or self._dirty or self._stale or self._failed:
                if not (self._waiting or self._dirty or self._stale):
                    await self._pause()
                    self._stale, self._failed = self._failed, set()
                self._called.clear()
                waiting, self._waiting = self._waiting, []
                batch = self._take()
                try:
                    failed = await self._flush(batch)
                except Exception as error:
                    self._stale |= batch
                    _finish(waiting, error)
                    if not isinstance(error, ChatError):
                        log.exception("routes not written", extra={"routes": len(batch)})
                    await self._pause()
                except BaseException:
                    for one in waiting:
                        one.future.cancel()
                    raise
                else:
                    self._failed.update(failed)
                    for one in waiting:
                        its = [failed[route] for route in one.routes if route in failed]
                        _finish([one], its[0] if its else None)
        finally:
            self._task = None

    def _take(self) -> set[str]:
        """Everything that somebody waits for, and of the rest so much that who comes now does not wait long."""
        batch, self._dirty = self._dirty, set()
        for _ in range(min(len(self._stale), COMMANDS_MAX - len(batch))):
            batch.add(self._stale.pop())
        return batch

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):
                await self._called.wait()

    async def _flush(self, batch: set[str]) -> dict[str, ChatError]:
        """The routes that could not be written. Raises ChatError when not even the pod's own set could be."""
        adds = [route for route in batch if route in self._wanted]
        removes = [route for route in batch if route not in self._wanted]
        self._written.difference_update(removes)
        generation = self._generation
        own = self._keys.pod_routes(self._pod)
        # The pod's own set is written before the routes and cleared after them: it always covers what is
        # there, so that a pod that dies in the middle leaves nothing a reaper cannot find. They are waited for one
        # after the other, for in a cluster they are on different nodes.
        await self._execute([("SADD", own, *part) for part in _parts(adds)])
        failed: dict[str, ChatError] = {}
        changes = [("SADD", route) for route in adds] + [("SREM", route) for route in removes]
        for start in range(0, len(changes), COMMANDS_MAX):
            part = changes[start : start + COMMANDS_MAX]
            commands: list[Command] = [(what, self._keys.route(route), self._pod) for what, route in part]
            for (_, route), reply in zip(part, await execute_each(self._redis, commands), strict=True):
                if isinstance(reply, ChatError):
                    failed[route] = reply
                elif reply and route in self._written:
                    self._missed += 1
        removed = [route for route in removes if route not in failed]
        await self._execute([("SREM", own, *part) for part in _parts(removed)])
        if generation == self._generation:
            self._written.update(route for route in adds if route not in failed)
        return failed

    async def _execute(self, commands: Sequence[Command]) -> None:
        for start in range(0, len(commands), COMMANDS_MAX):
            await execute(self._redis, commands[start : start + COMMANDS_MAX])


class _Waiting(NamedTuple):
    """A caller, and the routes that it waits for."""

    future: asyncio.Future[None]
    routes: Collection[str]


def _parts(routes: Sequence[str]) -> list[Sequence[str]]:
    return [routes[start : start + REVERSE_MAX] for start in range(0, len(routes), REVERSE_MAX)]


def _finish(waiting: Sequence[_Waiting], error: Exception | None) -> None:
    for future, _ in waiting:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
