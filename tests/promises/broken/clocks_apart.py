"""Not a fault of the service but of its machine: some pods' clocks are far behind, and all step back and forth.

Those that are behind are named beside the fault, so that the test decides which.
"""

from __future__ import annotations

import time
from typing import Any

from switch import is_on

from chatkernel.wiring import Kernel

BEHIND_MS = 3_600_000
STEP_MS = 5_000


def install() -> None:
    real = Kernel.__init__

    def init(self: Kernel, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        right, pod = self.appender._now, self.settings.pod

        def now() -> int:
            if not is_on(__name__):
                return right()
            steps_back = int(time.monotonic() * 20) % 2
            return right() - BEHIND_MS * is_on(pod) - STEP_MS * steps_back

        self.appender._now = now

    Kernel.__init__ = init  # type: ignore[method-assign]
