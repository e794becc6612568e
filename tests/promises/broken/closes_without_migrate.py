"""Broken: a pod that is going closes its sockets without asking its clients to move first."""

from __future__ import annotations

from switch import is_on

from chatkernel.errors import Close
from chatpod.drain import Drainer


def install() -> None:
    real = Drainer._move

    async def move(self: Drainer, count: int | None, deadline_s: float) -> None:
        if is_on(__name__):
            for client in list(self._hub.clients.values()):
                client.connection.close(Close.MIGRATED, "moved")
        else:
            await real(self, count, deadline_s)

    Drainer._move = move  # type: ignore[method-assign]
