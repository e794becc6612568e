"""Discovery: which chat pod a device should connect to, and a ticket for it.

An answer is made from a look at the registry that began after the question came, shared by all who asked at
the same time: so a pod that was put out before the question is never handed out. When Redis does not answer,
the last look stands.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from chatkernel.access_tokens import Caller
from chatkernel.discovery import rank
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Seat, Seats
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import PodEntry, Registry, Snapshot
from chatkernel.tickets import TicketIssuer

log = logging.getLogger(__name__)

REFRESH_INTERVAL_S = 0.5
FRESH_WAIT_S = 0.25
"""A question waits this long for a fresh look before it is answered from the last one."""
RECENT_S = 4.0
"""An assignment counts until its connection shows in the pod's own count, at most this long."""
ALTERNATIVES_MAX = 3
MARK_KEPT_S = 3600
MARK_RENEW_S = 600.0
"""The mark by which a process knows that Redis was emptied outlives the process by at most this, and is renewed."""
RENEWAL_GRACE_S = 2.0
"""After Redis is back, for pods to renew: they do it every second."""

EMPTIED_GRACE_S = 2.5
"""When Redis was emptied, the last look stands this long: pods notice at their next renewal of the lease."""
FULL_RETRY_AFTER_S = (1.0, 4.0)
"""Spread, so that those who were turned away do not come back together."""


class Recent:
    """Seats that were given and do not show in the pods' own counts yet."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._given: dict[str, deque[float]] = {}
        self._connections: dict[str, int] = {}

    def give(self, pod: str) -> None:
        self._given.setdefault(pod, deque()).append(self._monotonic())

    def catch_up(self, entries: Sequence[PodEntry]) -> None:
        """New looks at the registry: as many assignments are settled as connections came."""
        for entry in entries:
            given = self._given.get(entry.name)
            arrived = entry.connections - self._connections.get(entry.name, entry.connections)
            self._connections[entry.name] = entry.connections
            while given and arrived > 0:
                given.popleft()
                arrived -= 1
        present = {entry.name for entry in entries}
        for gone in [name for name in self._connections if name not in present]:
            del self._connections[gone]
            self._given.pop(gone, None)

    def counts(self) -> dict[str, float]:
        since = self._monotonic() - RECENT_S
        for given in self._given.values():
            while given and given[0] < since:
                given.popleft()
        return {name: float(len(given)) for name, given in self._given.items()}


class Discovery:
    """Gives out seats. `start` before, `aclose` after."""

    def __init__(
        self,
        registry: Registry,
        tickets: TicketIssuer,
        *,
        redis: Redis,
        mark: str,
        region: str,
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._registry, self._tickets, self._region = registry, tickets, region
        # Of this process alone: another's would be there again before this one has looked.
        self._redis, self._mark, self._losses_seen = redis, mark, redis.losses
        self._mark_renewed_at = monotonic()
        self._one_look = asyncio.Lock()
        self._emptied_until = self._renewed_by = 0.0
        self._rng, self._monotonic = rng, monotonic
        self._recent = Recent(monotonic)
        self._snapshot: Snapshot | None = None
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self.degraded = False
        """Redis does not answer: seats come from the last look."""

    async def start(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._mark_is_there(), FRESH_WAIT_S * 4)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._look(), FRESH_WAIT_S * 4)
        self._loop = asyncio.create_task(self._keep_looking(), name="discovery")

    async def aclose(self) -> None:
        tasks = [task for task in (self._loop, self._next, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def seats(self, caller: Caller, region: str | None, exclude: Collection[str]) -> Seats:
        """The best seat and others. Raises ChatError(NO_CAPACITY) with the time after which to ask again."""
        if not self.degraded:
            await self._fresh()
        snapshot = self._snapshot
        ranked = [] if snapshot is None else rank(snapshot, region or self._region, self._recent.counts())
        if exclude:
            ranked = [entry for entry in ranked if entry.name not in exclude]
        if not ranked:
            raise ChatError(Code.NO_CAPACITY, retry_after_s=round(self._rng.uniform(*FULL_RETRY_AFTER_S), 2))
        self._recent.give(ranked[0].name)
        seats = [self._seat(caller, entry) for entry in ranked[: 1 + ALTERNATIVES_MAX]]
        return Seats(seats[0], seats[1:])

    def _seat(self, caller: Caller, entry: PodEntry) -> Seat:
        ticket, expires_at = self._tickets.issue(
            caller.user_id, caller.device_id, entry.name, entry.incarnation
        )
        return Seat(entry.name, entry.url, ticket, expires_at)

    async def _fresh(self) -> None:
        """Wait for a look that begins after now. One runs, and one more waits for all who come meanwhile."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._look(), name="discovery-look")
            waiting = self._reading
        else:
            if self._next is None or self._next.done():
                self._next = asyncio.create_task(self._look_after(self._reading), name="discovery-next")
            waiting = self._next
        await asyncio.wait((waiting,), timeout=FRESH_WAIT_S)
        if not waiting.done() and not self.degraded:
            self._mark_degraded("slow")

    async def _look_after(self, running: asyncio.Task[None]) -> None:
        await asyncio.wait((running,))
        # From here on this look is the running one: who comes now waits for the one after it.
        self._reading, self._next = self._next, None
        await self._look()

    async def _look(self) -> None:
        # One at a time. Of two that find Redis emptied the first leaves the mark again, and the second would then
        # believe that all pods have gone; and an older look must not come after a newer one.
        async with self._one_look:
            await self._look_alone()

    async def _look_alone(self) -> None:
        try:
            snapshot = await self._registry.snapshot()
        except ChatError as error:
            self._mark_degraded(error.code)
            return
        losses = self._redis.losses
        if self.degraded or losses != self._losses_seen:
            # It may have been restarted between two looks, with leases from before.
            self._renewed_by = self._monotonic() + RENEWAL_GRACE_S
        self._losses_seen = losses
        if self.degraded:
            self.degraded = False
            log.info("discovery.redis_back")
        if self._nobody_yet(snapshot):
            return
        if self._empties(snapshot) and await self._was_emptied():
            return
        if snapshot.entries:
            self._emptied_until = 0.0
        self._snapshot = snapshot
        self._recent.catch_up(snapshot.entries)

    def _nobody_yet(self, snapshot: Snapshot) -> bool:
        """Whether Redis is just back, and the leases that nobody could renew have not been renewed: the last look
        stands."""
        last = self._snapshot
        return (
            not snapshot.entries
            and last is not None
            and bool(last.entries)
            and self._monotonic() < self._renewed_by
        )

    def _empties(self, snapshot: Snapshot) -> bool:
        """Whether every pod vanished between two looks, without a lease that ran out."""
        last = self._snapshot
        return last is not None and bool(last.entries) and not (snapshot.entries or snapshot.expired)

    async def _was_emptied(self) -> bool:
        """Whether that is because Redis was emptied: our mark has gone as well. The last look then stands
        until the pods, which live, have registered anew."""
        now = self._monotonic()
        if now < self._emptied_until:
            return True
        if await self._mark_is_there():
            return False
        log.warning("discovery.redis_emptied")
        self._emptied_until = now + EMPTIED_GRACE_S
        return True

    async def _mark_is_there(self) -> bool:
        """Leave the mark, and tell whether it was there."""
        try:
            (was_new,) = await execute(self._redis, [("SET", self._mark, b"1", "NX", "EX", MARK_KEPT_S)])
        except ChatError:
            return True
        return was_new is None

    async def _keep_mark(self) -> None:
        """Renewed and never made: where it is missing, the next look has to find that out."""
        now = self._monotonic()
        if self.degraded or now - self._mark_renewed_at < MARK_RENEW_S:
            return
        self._mark_renewed_at = now
        with suppress(ChatError):
            await execute(self._redis, [("EXPIRE", self._mark, MARK_KEPT_S)])

    def _mark_degraded(self, why: str) -> None:
        if not self.degraded:
            log.warning("discovery.redis_away", extra={"why": why})
        self.degraded = True

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            try:
                await self._look()
                await self._keep_mark()
            except Exception:
                # A look that cannot be understood must not end all later ones.
                log.exception("discovery.look_failed")
