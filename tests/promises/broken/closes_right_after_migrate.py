"""Broken: a pod that is going asks its clients to move and closes their sockets at once."""

from __future__ import annotations

import asyncio

from switch import is_on

from chatkernel.errors import Close
from chatkernel.protocol import Migrate
from chatkernel.settings import DrainSettings
from chatpod.drain import Drainer

LATER_S = 0.001


def install() -> None:
    real = Drainer._move

    async def move(self: Drainer, count: int | None, pace: DrainSettings) -> None:
        if not is_on(__name__):
            return await real(self, count, pace)
        clients = list(self._hub.clients.values())
        for client in clients:
            client.send(Migrate("draining", self._now() + 20_000))
        await asyncio.sleep(LATER_S)
        for client in clients:
            client.connection.close(Close.MIGRATED, "moved")
        return None

    Drainer._move = move  # type: ignore[method-assign]
