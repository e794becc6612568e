"""Broken: a client that does not read is kept, with everything that it has not read."""

from __future__ import annotations

from switch import is_on

from chatpod.connection import Connection

NO_LIMIT_BYTES = 1 << 60


def install() -> None:
    real = Connection.flush

    def flush(self: Connection) -> None:
        flusher = self._flusher
        limit_bytes = flusher.limit_bytes
        if is_on(__name__):
            flusher.limit_bytes = NO_LIMIT_BYTES
        try:
            real(self)
        finally:
            flusher.limit_bytes = limit_bytes

    Connection.flush = flush  # type: ignore[method-assign]
