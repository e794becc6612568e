"""Logins of this computer, in files that several `chatctl` processes share."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from chatclient.errors import Unreachable
from chatclient.files import read_json, write_private
from chatclient.http import Tokens

LOCK_WAIT_S = 30.0
"""Longer than one request for tokens takes; a process that was stopped meanwhile would hold it for ever."""

LOCK_TRY_EVERY_S = 0.05


class Session(Struct, frozen=True):
    """A login of this computer, kept in `<data>/sessions/NAME.json`, readable by its owner alone."""

    username: str
    url: str
    """Empty: of whichever cluster runs on the data directory; its port may be another the next time."""
    tokens: Tokens


class SessionFile:
    """The `TokenStore` of one person here."""

    def __init__(self, path: Path, username: str, url: str) -> None:
        self._path, self._username, self._url = path, username, url

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Held by one process at a time, and let go when it dies. Raises Unreachable, OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A file of its own, never removed: the session's is replaced at each write, and its lock with it.
        fd = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            give_up_at = time.monotonic() + LOCK_WAIT_S
            while not _locked(fd):
                if time.monotonic() >= give_up_at:
                    raise Unreachable(f"another chatctl of {self._username} is in the middle of a log-in")
                await asyncio.sleep(LOCK_TRY_EVERY_S)
            yield
        finally:
            os.close(fd)

    def load(self) -> Tokens | None:
        session = read_json(self._path, Session)
        return None if session is None else session.tokens

    def keep(self, tokens: Tokens) -> None:
        """Raises OSError."""
        write_private(self._path, msgspec.json.encode(Session(self._username, self._url, tokens)))

    def forget(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
