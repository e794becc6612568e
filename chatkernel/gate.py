"""How many requests a process works on at once: while the store stands still none ends, and others would pile up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chatkernel.errors import ChatError, Code

RETRY_AFTER_S = 1.0


class Gate:
    """Used on one loop."""

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0

    def enter(self) -> None:
        """Raises ChatError(BUSY), and then there is nothing to leave."""
        if self._inside >= self._most:
            raise ChatError(Code.BUSY, limit=self._most, retry_after_s=RETRY_AFTER_S)
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
