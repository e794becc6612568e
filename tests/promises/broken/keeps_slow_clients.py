"""Broken: a client that does not read is kept, with everything that it has not read."""

from __future__ import annotations

from switch import is_on

from chatpod.connection import Connection
from chatpod.pod import Pod


def install() -> None:
    real = Pod.slow

    def slow(self: Pod, connection: Connection) -> None:
        if not is_on(__name__):
            real(self, connection)

    Pod.slow = slow  # type: ignore[method-assign]
