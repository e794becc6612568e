"""Broken: a client that does not read is kept, with everything that it has not read."""

from __future__ import annotations

from switch import is_on

from chatpod.connection import Connection

NO_LIMIT_BYTES = 1 << 60


def install() -> None:
    real = Connection.flush

    def flush(self: Connection) -> None:
        if is_on(__name__):
            self._limit = NO_LIMIT_BYTES
        real(self)

    Connection.flush = flush  # type: ignore[method-assign]
