"""Whose turn it is to write, among processes on one machine: a courtesy, not a lock. And who opens a file first.

SQLite lets whoever asks at the right moment have the write lock. A process with a full queue asks again as soon as
it has committed, and the others, who ask every half millisecond, may go without for long. So who waits for the
write lock holds this file lock meanwhile, and who has just committed finds it held and waits behind.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chatkernel.errors import ChatError, Code

PATIENCE_S = 0.1
"""After this a process writes out of turn: whoever holds the turn may have been stopped."""
POLL_S = 0.0005
WAITED_S = 0.05
"""For how long after a process had to wait all of them go through the turnstile."""

_STAMP_BYTES = 8
_OPEN_AT = 64
"""A byte of the file that whoever has the database open holds a lock of another kind on."""


class Turnstile:
    """Used by one thread."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._fd, _STAMP_BYTES)
            self._shared = mmap.mmap(self._fd, _STAMP_BYTES)
        except OSError as error:
            raise ChatError(Code.STORAGE_UNAVAILABLE, f"{path}: {error.strerror}") from error
        # A read of memory and not a system call, before which the interpreter lock would be given up.
        self._waited_at_ns = memoryview(self._shared).cast("q")

    def is_first(self) -> bool:
        """Whether no other process has the database open; then none will open it until `opened`. While another is
        the first, this waits."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OPEN_AT)
        except OSError:
            fcntl.lockf(self._fd, fcntl.LOCK_SH, 1, _OPEN_AT)
            return False
        return True

    def opened(self) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_SH, 1, _OPEN_AT)

    def waited_for(self) -> bool:
        """Whether a process has had to wait lately. The clock is the machine's, and starts anew with it."""
        return 0 <= time.monotonic_ns() - self._waited_at_ns[0] < WAITED_S * 1e9

    def waiting(self) -> None:
        """Say that this process has to wait."""
        self._waited_at_ns[0] = time.monotonic_ns()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Within, this process is the next to get the write lock."""
        mine = self._take()
        try:
            yield
        finally:
            if mine:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _take(self) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.waiting()
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_S)
            else:
                return True

    def close(self) -> None:
        self._waited_at_ns.release()
        self._shared.close()
        os.close(self._fd)
