"""The pod's entry in the registry, renewed all the time; and the fence for a pod that was frozen past its lease.

A pod that did not run for longer than its lease has been declared dead: its clients went elsewhere and its routes
are gone. When it wakes it closes what it still holds and registers anew, as another run of itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chatkernel.errors import ChatError
from chatkernel.ids import NowMs
from chatkernel.registry import PodEntry, PodState, Registry
from chatkernel.settings import ServiceSettings

log = logging.getLogger(__name__)


class Lease:
    """Owns this pod's incarnation and registry entry."""

    def __init__(
        self,
        registry: Registry,
        settings: ServiceSettings,
        now: NowMs,
        *,
        connections: Callable[[], int],
        draining: Callable[[], bool],
        on_fenced: Callable[[], None],
        on_forgotten: Callable[[], Awaitable[None]],
        on_replaced: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._registry, self._settings, self._now = registry, settings, now
        self._connections, self._draining = connections, draining
        self._on_fenced, self._on_forgotten = on_fenced, on_forgotten
        self._on_replaced, self._on_gone = on_replaced, on_gone
        # Of the process, whatever runs it begins: one that was frozen while another process took its name must not
        # come back as the newer of the two.
        self._started_at = now()
        self.incarnation = secrets.token_hex(6)
        self.registered = asyncio.Event()
        self.degraded = False
        self._left = False
        self._renew_now = asyncio.Event()
        self._forgotten = asyncio.Event()
        """The registry did not know this run: everything is to be written anew."""
        self._behind = False
        """That is not done yet."""
        self._ran_at_s, self._ran_at_ms = 0.0, 0

    def renew_soon(self) -> None:
        self._renew_now.set()

    async def run(self) -> None:
        """Renew for ever."""
        async with asyncio.TaskGroup() as tasks:
            # Each by itself: a renewal waits for Redis, writing everything anew may take longer than a lease, and
            # neither is a sleep.
            tasks.create_task(self._keep_renewing(), name="lease-renewals")
            tasks.create_task(self._keep_awake(), name="lease-clock")
            tasks.create_task(self._keep_written(), name="lease-forgotten")

    async def _keep_renewing(self) -> None:
        while True:
            self._notice_sleep()
            self._renew_now.clear()  # what changes from here on may be missing in what is written now
            await self._renew()
            self._notice_sleep()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.lease_renew_s):
                    await self._renew_now.wait()

    async def _keep_awake(self) -> None:
        while True:
            self._notice_sleep()
            await asyncio.sleep(self._settings.lease_renew_s)

    async def _keep_written(self) -> None:
        while True:
            await self._forgotten.wait()
            self._forgotten.clear()
            try:
                await self._on_forgotten()
            except ChatError as error:
                self._forgotten.set()
                self._away(error)
                await asyncio.sleep(self._settings.lease_renew_s)
            else:
                self._behind = self._forgotten.is_set()
                self.registered.set()

    def _notice_sleep(self) -> None:
        """Called every `lease_renew_s`: a longer pause means that nothing ran here."""
        now_s, now_ms = asyncio.get_running_loop().time(), self._now()
        asleep_s = max(now_s - self._ran_at_s, (now_ms - self._ran_at_ms) / 1000)
        first = self._ran_at_s == 0.0
        self._ran_at_s, self._ran_at_ms = now_s, now_ms
        if not first and asleep_s > self._settings.lease_s + self._settings.lease_renew_s:
            self._fence(asleep_s)

    def _fence(self, asleep_s: float) -> None:
        log.warning("lease lost", extra={"asleep_s": round(asleep_s, 1)})
        self.incarnation = secrets.token_hex(6)
        self._on_fenced()

    async def _renew(self) -> None:
        if self._left:
            return
        settings = self._settings
        entry = PodEntry(
            name=settings.pod,
            incarnation=self.incarnation,
            url=settings.public_url,
            region=settings.region,
            revision=settings.revision,
            state=PodState.DRAINING if self._draining() else PodState.READY,
            connections=self._connections(),
            capacity=settings.capacity,
            started_at=self._started_at,
            lease_until=0,
            address=settings.address,
        )
        try:
            # On Kubernetes, where a pod has an address of its own, its name is never used twice.
            result = await self._registry.renew(entry, settings.lease_s, only=bool(settings.address))
            if result.gone:
                log.error("this pod was removed for good, and ends")
                self._left = True
                self._on_gone()
                return
            if not result.ok:
                if not result.was_missing:
                    # A newer run has the name: two that fence each other in turn would serve nobody.
                    log.error("another run of this name is registered")
                    self._left = True
                    self._on_replaced()
                    return
                # This run was taken for dead: what it holds has been given to others. A pod that is going anyway
                # keeps its clients until they have moved.
                if not self._draining():
                    self._fence(0.0)
                return
            if result.was_missing:
                self._behind = True
                self._forgotten.set()
            elif self.degraded and not self._behind:
                log.info("registry back")
                self.degraded = False
        except ChatError as error:
            self._away(error)

    def _away(self, error: ChatError) -> None:
        if not self.degraded:
            log.warning("registry away", extra={"error": str(error)})
        self.degraded = True

    async def leave(self) -> None:
        """Take the entry out, for good: nobody is sent here any more."""
        self._left = True
        try:
            await self._registry.remove(self._settings.pod, self.incarnation)
        except ChatError as error:
            log.warning("registry entry left to expire", extra={"error": str(error)})
