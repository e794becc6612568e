"""What others undo again and again is done ever more rarely, so that two that disagree make no storm."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

FIRST_S = 1.0
MOST_S = 60.0


class Brake:
    """Of one cluster."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._waits: dict[Hashable, tuple[float, float]] = {}
        """How long to wait the next time, and since when."""

    def holds(self, what: Hashable) -> bool:
        pause_s, since = self._waits.get(what, (0.0, 0.0))
        return self._now() < since + pause_s

    def done(self, what: Hashable) -> None:
        """Again after twice the pause; what was calm for as long as the longest begins anew."""
        pause_s, since = self._waits.get(what, (0.0, 0.0))
        is_calm = self._now() - since > pause_s + MOST_S
        self._waits[what] = (FIRST_S if is_calm or not pause_s else min(MOST_S, 2 * pause_s)), self._now()
