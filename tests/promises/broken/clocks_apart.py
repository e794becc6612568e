"""Not a fault of the service but of its machine: every second pod's clock is far behind, and steps back and forth."""

from __future__ import annotations

import time
from typing import Any

from switch import is_on

from chatkernel.appender import Appender

BEHIND_MS = 3_600_000
STEP_MS = 5_000


def install() -> None:
    real = Appender.__init__

    def init(self: Appender, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        right = self._now
        is_behind = id(self) >> 4 & 1

        def now() -> int:
            if not is_on(__name__):
                return right()
            steps_back = int(time.monotonic() * 20) % 2
            return right() - BEHIND_MS * is_behind - STEP_MS * steps_back

        self._now = now

    Appender.__init__ = init  # type: ignore[method-assign]
