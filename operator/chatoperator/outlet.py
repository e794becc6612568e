"""Where the operator writes for people: a text file that never makes its writer wait.

Somebody presses Ctrl-S, a pipe's reader stands still, a line to a far machine stalls: the write blocks, and on the
loop it would stop the whole cluster. So a thread writes, and what it cannot get rid of is dropped.
"""

from __future__ import annotations

import io
import os
import queue
import select
import threading
import time

WAITING_MAX = 256
"""Writes that wait; more are dropped, and their number is told when it goes on."""


class Outlet(io.TextIOBase):
    """Writes to `fd` in a thread of its own, each `write` as a whole or not at all. A reader that is gone is no
    error, and no more is one that never was (`fd` -1): nothing is written from then on."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd, self._encoding = fd, encoding
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="outlet", daemon=True)
        self._thread.start()

    # -- what a text file is

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if self._dropped and not self._waiting.full():
            text, self._dropped = f"({self._dropped} lines were not shown: see the log)\n{text}", 0
        try:
            self._waiting.put_nowait(text.encode(self._encoding, "replace"))
        except queue.Full:
            self._dropped += text.count("\n")
        return len(text)

    # -- and what it is not

    @property
    def is_behind(self) -> bool:
        """Something written earlier still waits: what is only news for a moment need not be written."""
        return not self._waiting.empty()

    def finish(self, within_s: float) -> None:
        """Writes what waits, if that can be done in time. The thread of a reader that stands still is left behind:
        it holds nothing that the end of the process would wait for."""
        deadline = time.monotonic() + within_s
        try:
            self._waiting.put(None, timeout=within_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        is_gone = False
        while (data := self._waiting.get()) is not None:
            while data and not is_gone:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # a terminal that another program made non-blocking
                    select.select([], [self._fd], [])
                except OSError:
                    is_gone = True
