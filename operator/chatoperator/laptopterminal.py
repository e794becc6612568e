"""The terminal that a laptop cluster was started in, and whether it is still there."""

from __future__ import annotations

import os
import signal

STDIO_FDS = (0, 1, 2)


class Terminal:
    """Make it early: a terminal that is gone by then is none.

    SIGHUP alone does not tell of a closed terminal: only the leader of its session gets one, and GNU make, which is
    that leader when a terminal was opened to run it, does not pass it on."""

    def __init__(self) -> None:
        self._fds = [fd for fd in STDIO_FDS if os.isatty(fd)]
        self.is_outlived = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        """Started by `nohup` or the like: the cluster goes on without its terminal."""

    def is_gone(self) -> bool:
        """What was a terminal answers like none (EIO) after its hang-up."""
        return not all(os.isatty(fd) for fd in self._fds)
