"""The loop: observe, plan, apply. One task per cluster; events only wake it, and it looks again by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from chatkernel.errors import ChatError
from chatoperator.acting import Acting, RegistryPort
from chatoperator.again import Again
from chatoperator.history import History
from chatoperator.model import Action, Observed, RegistryView
from chatoperator.place import PlaceForPods
from chatoperator.plan import plan
from chatoperator.spec import ChatCluster

log = logging.getLogger(__name__)

INTERVAL_S = 0.5
STALL_S = 5.0
"""After the operator itself did not run for this long, what it knows of pods is old."""
STALL_PAUSE_S = 3.0


class Reconciler:
    """`cluster` is asked before each plan, so a changed resource is seen at once."""

    def __init__(
        self,
        place: PlaceForPods,
        registry: RegistryPort,
        cluster: Callable[[], ChatCluster],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._registry, self._cluster, self._now = place, registry, cluster, now
        self._wake = asyncio.Event()
        self.history = History()
        self.observed = Observed()
        self._acting = Acting(place, registry, self.history, now=now)
        self._again = Again()
        self._stepped = asyncio.Event()

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def until(self, condition: Callable[[Observed], bool]) -> None:
        """Returns when an observation satisfies the condition."""
        while not condition(self.observed):
            await self._stepped.wait()

    async def run(self, stop: asyncio.Event) -> None:
        last = self._now()
        while not stop.is_set():
            if self._now() - last > STALL_S:
                log.warning("the operator was not running", extra={"for_s": round(self._now() - last, 1)})
                await asyncio.sleep(STALL_PAUSE_S)
            self._wake.clear()
            with self._again("a round of the operator"):
                await self.step()
            last = self._now()
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> list[Action]:
        """One round; returns what was decided."""
        registry = await self._look_at_registry()
        now = self._now()
        self.observed = self.history.look(self._place.observe(), registry, now)
        actions = plan(self._cluster().spec, self.observed, now)
        await self._acting.apply(self._cluster(), actions, self.observed)
        self._stepped.set()
        self._stepped = asyncio.Event()
        return actions

    async def _look_at_registry(self) -> RegistryView | None:
        with self._again("reading the registry"):
            try:
                return await self._registry.observe(self._now())
            except (ChatError, TimeoutError):
                return None
        return None
