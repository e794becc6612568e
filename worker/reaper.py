"""Clears away what dead chat pods left in Redis, and has looked at what they had in flight.

Several workers may do this at once: every step is idempotent, and a worker that dies in the middle leaves the
rest to the next round.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from chatkernel.bus import Bus, Poke, Post
from chatkernel.errors import ChatError
from chatkernel.intents import Intents
from chatkernel.registry import PodEntry, Registry, Snapshot
from chatkernel.routes import Routes

REAP_INTERVAL_S = 0.5

WATCHED_SHARE = 0.8
"""Of a lease: how long a worker has itself seen a lease not renewed, with Redis answering, before it believes
it."""

GRACE_LEASES = 3
"""Leases after its end until an expired entry is removed here. The operator, which knows more, is quicker."""

POKES_MAX = 500
"""Channels per publish."""

log = logging.getLogger(__name__)


async def poke(bus: Bus, channel_ids: Sequence[str]) -> None:
    """Have every pod with a member of these channels compare them with the store. Raises ChatError."""
    for start in range(0, len(channel_ids), POKES_MAX):
        part = channel_ids[start : start + POKES_MAX]
        await bus.publish([Post(Poke([channel]), channels=(channel,)) for channel in part])


class Reaper:
    """Owns what this worker has seen of leases."""

    def __init__(
        self,
        registry: Registry,
        routes: Routes,
        intents: Intents,
        bus: Bus,
        *,
        lease_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._registry, self._routes, self._intents, self._bus = registry, routes, intents, bus
        self._lease_s, self._monotonic = lease_s, monotonic
        self._unchanged_since: dict[tuple[str, str, int], float] = {}
        """(name, incarnation, end of lease) to when this worker first saw it so, Redis answering ever
        since."""
        self.reaped = 0
        self.poked = 0

    async def step(self) -> None:
        """Raises ChatError."""
        try:
            snapshot = await self._registry.snapshot()
        except ChatError:
            # While Redis did not answer, or had no room, nobody could renew: what has been seen until now says
            # nothing.
            self._unchanged_since.clear()
            raise
        for entry in self._believed_dead(snapshot):
            await self._registry.condemn(entry)
        live = {entry.name: entry for entry in snapshot.entries}
        for entry in await self._registry.departed():
            await self._clear(entry, live)
        await self._remove_old(snapshot)

    def _believed_dead(self, snapshot: Snapshot) -> list[PodEntry]:
        """Expired by Redis' clock, and not renewed for nearly a lease by ours: after a freeze or a step of
        Redis' clock all leases look expired at once, and their pods are about to renew them."""
        now = self._monotonic()
        seen = {
            (entry.name, entry.incarnation, entry.lease_until): entry
            for entry in (*snapshot.entries, *snapshot.expired)
        }
        self._unchanged_since = {key: self._unchanged_since.get(key, now) for key in seen}
        long_enough = now - self._lease_s * WATCHED_SHARE
        return [
            entry
            for key, entry in seen.items()
            if entry.lease_until <= snapshot.redis_now_ms and self._unchanged_since[key] <= long_enough
        ]

    async def _clear(self, entry: PodEntry, live: Mapping[str, PodEntry]) -> None:
        noted = await self._intents.noted(entry.name)
        channels = sorted(noted)
        await poke(self._bus, channels)
        if (newer := live.get(entry.name)) is not None:
            # A newer run has the name: the routes are its own by now, for it has cleared away what it found when it
            # began; and the intents that it has noted itself.
            await self._intents.clear(entry.name, [c for c in channels if noted[c] < newer.started_at])
        else:
            # Should one begin at this very moment, it notices that its stream goes.
            await self._routes.reap(entry.name)
            await self._intents.clear(entry.name, channels)
            await self._intents.forget(entry.name)
        await self._registry.bury(entry)
        self.reaped += 1
        self.poked += len(channels)
        log.info(
            "pod reaped",
            extra={"reaped": entry.name, "incarnation": entry.incarnation, "channels": len(channels)},
        )

    async def _remove_old(self, snapshot: Snapshot) -> None:
        oldest = snapshot.redis_now_ms - GRACE_LEASES * self._lease_s * 1000
        for entry in snapshot.expired:
            watched = self._unchanged_since[entry.name, entry.incarnation, entry.lease_until]
            settled = self._monotonic() - watched >= GRACE_LEASES * self._lease_s * WATCHED_SHARE
            if not (settled and entry.lease_until < oldest):
                continue
            # Not if it has renewed since it was looked at, for then its routes are in use.
            if await self._registry.remove(entry.name, entry.incarnation, expired_only=True):
                # Once more, for what a pod that hung may have written after it was cleared away.
                await self._routes.reap(entry.name)
