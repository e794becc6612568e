"""Moves clients away: paced `migrate` frames now, and what has not gone by the deadline is closed, resumably.

Sends are still taken and answered until the last client is gone.
"""

from __future__ import annotations

import asyncio
import logging

from chatkernel.errors import Close
from chatkernel.ids import NowMs
from chatkernel.live import Live
from chatkernel.protocol import Migrate
from chatkernel.settings import DrainSettings
from chatpod.client import Client
from chatpod.hub import Hub

log = logging.getLogger(__name__)

TICK_S = 0.05
TELLING_SHARE_OF_DEADLINE = 0.6
SHED_GRACE_S = 10.0


class Drainer:
    """Owns the drain of this pod: at most one at a time."""

    def __init__(self, hub: Hub, live: Live, now: NowMs) -> None:
        self._hub, self._live, self._now = hub, live, now
        self._task: asyncio.Task[None] | None = None
        self.draining = False
        self.migrated = 0

    def drain(self, deadline_s: float | None = None, rate_per_s: float | None = None) -> None:
        """Begin to move everyone; more calls change nothing. None: as the settings say."""
        if not self.draining:
            self.draining = True
            if self._task is not None:
                self._task.cancel()
            pace = self._pace(deadline_s, rate_per_s)
            self._task = asyncio.create_task(self._move(None, pace), name="drain")

    def undrain(self) -> None:
        """Stop moving clients; those already told go where they were told."""
        if self.draining:
            self.draining = False
            if self._task is not None:
                self._task.cancel()
                self._task = None
            for client in self._hub.clients.values():
                client.migrating = False  # whoever stays after all is told again the next time

    def shed(self, count: int, rate_per_s: float | None = None) -> None:
        """Move `count` clients to other pods; the pod itself stays."""
        if not self.draining and (self._task is None or self._task.done()):
            pace = self._pace(SHED_GRACE_S, rate_per_s)
            self._task = asyncio.create_task(self._move(count, pace), name="shed")

    def _pace(self, deadline_s: float | None, rate_per_s: float | None) -> DrainSettings:
        present = self._live.drain
        return DrainSettings(
            present.deadline_s if deadline_s is None else deadline_s,
            present.rate_per_s if rate_per_s is None else rate_per_s,
        )

    async def finished(self) -> None:
        """Returns when the drain is over."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _move(self, count: int | None, pace: DrainSettings) -> None:
        loop = asyncio.get_running_loop()
        started, deadline_s = loop.time(), pace.deadline_s
        deadline_ms = self._now() + int(deadline_s * 1000)
        told: list[Client] = []
        allowance, counted_at = 0.0, started - TICK_S
        # However many they are, all are told in time to move before the deadline.
        rate_per_s = max(
            pace.rate_per_s, (count or len(self._hub.clients)) / (TELLING_SHARE_OF_DEADLINE * deadline_s)
        )
        while count is None or len(told) < count:
            candidates = [c for c in self._hub.clients.values() if not c.migrating and not c.opening]
            if not candidates and (count is not None or not self._hub.clients):
                break
            # By the clock and not by turns: a busy loop has fewer of them.
            now_s = loop.time()
            allowance = min(allowance + rate_per_s * (now_s - counted_at), max(1.0, rate_per_s))
            counted_at = now_s
            most = int(allowance) if count is None else min(int(allowance), count - len(told))
            for client in candidates[:most]:
                client.migrating = True
                client.send(Migrate("draining" if count is None else "rebalancing", deadline_ms))
                told.append(client)
                self.migrated += 1
            allowance -= min(most, len(candidates))
            if loop.time() - started > deadline_s:
                break
            await asyncio.sleep(TICK_S)
        while loop.time() - started <= deadline_s and any(  # noqa: ASYNC110 - ends by the deadline as well
            c.session_id in self._hub.clients for c in told
        ):
            await asyncio.sleep(TICK_S)
        left = told if count is not None else list(self._hub.clients.values())
        for client in left:
            client.connection.close(Close.MIGRATED, "moved")
        log.info("drain over", extra={"told": len(told), "closed": len(left)})
