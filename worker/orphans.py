"""What services left that hold no lease: an API pod that died between storing and telling, a chat pod that died
before it was registered, or was removed and lived on for a moment.

Such a service lets go of an intent within moments, or notes it again. One that stands unchanged through two looks
is an orphan: its channels are looked at, which costs little and harms nothing if its owner is only slow. Routes of a
pod without a lease are cleared away when its stream has gone, which nobody has read for long.
"""

from __future__ import annotations

import logging

from chatkernel.bus import Bus
from chatkernel.intents import Intents
from chatkernel.registry import Registry
from chatkernel.routes import Routes
from worker.reaper import poke

LOOK_INTERVAL_S = 3.0

log = logging.getLogger(__name__)


class Orphans:
    """Owns what was there at the last look."""

    def __init__(self, registry: Registry, intents: Intents, bus: Bus, routes: Routes) -> None:
        self._registry, self._intents, self._bus, self._routes = registry, intents, bus, routes
        self._before: dict[str, dict[str, int]] = {}
        self.poked = 0

    async def step(self) -> None:
        """Raises ChatError."""
        snapshot = await self._registry.snapshot()
        # Chat pods are the reaper's, whose lease says when.
        leased = {entry.name for entry in (*snapshot.entries, *snapshot.expired)}
        leased |= {entry.name for entry in await self._registry.departed()}
        before, self._before = self._before, {}
        for owner in await self._intents.owners():
            if owner in leased:
                continue
            now = await self._intents.noted(owner)
            earlier = before.get(owner, {})
            stale = sorted(channel for channel, at_ms in now.items() if earlier.get(channel) == at_ms)
            if stale:
                await poke(self._bus, stale)
                await self._intents.clear(owner, stale)
                self.poked += len(stale)
                log.info("orphaned intents", extra={"owner": owner, "channels": len(stale)})
            elif not now and owner in before and not await self._routes.is_read(owner):
                await self._routes.reap(owner)
                await self._intents.forget(owner)
                continue
            self._before[owner] = {channel: now[channel] for channel in now.keys() - set(stale)}
