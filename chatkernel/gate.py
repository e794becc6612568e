"""How many requests a process works on at once: while the store stands still none ends, and others would pile up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chatkernel.errors import ChatError, Code
from chatkernel.live import Live

RETRY_AFTER_S = 1.0


class Gate:
    """Used on one loop."""

    def __init__(self, live: Live) -> None:
        self._live, self._inside = live, 0

    def enter(self) -> None:
        """Raises ChatError(BUSY), and then there is nothing to leave."""
        most = self._live.limits.requests_at_once_max
        if self._inside >= most:
            raise ChatError(Code.BUSY, limit=most, retry_after_s=RETRY_AFTER_S)
        self._inside += 1

    def leave(self) -> None:
        self._inside -= 1

    @contextmanager
    def passed(self) -> Iterator[None]:
        """Raises ChatError(BUSY)."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
