"""A service that is a supervisor's child never outlives it, even when the supervisor is killed with SIGKILL.

The supervisor holds the write end of a pipe and never writes; services read: end of file means that it is gone.
On Linux the kernel ends them too, which also reaches a process that is stopped and cannot read.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

LIFELINE_ENV = "CHAT_LIFELINE_FD"
"""The environment variable that holds the read end's file descriptor. Absent: nobody to watch."""

LISTEN_FD_ENV = "CHAT_LISTEN_FD"
"""The environment variable that holds a listening socket's descriptor, shared by all pods of a kind: clients find
the same address while pods come and go, and who connects in between waits instead of being refused."""

STOP_DEADLINE_S = 10.0
"""A service that has not ended this long after its supervisor is ended hard."""

_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Linux only, elsewhere nothing: SIGKILL for this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def inherited_listeners() -> list[socket.socket]:
    """The listening socket that the supervisor shares, to be served besides the pod's own; usually none."""
    fd_text = os.environ.get(LISTEN_FD_ENV, "")
    return [socket.socket(fileno=int(fd_text))] if fd_text.isdigit() else []


async def watch_parent(stop: asyncio.Event) -> None:
    """Sets `stop` when the supervisor is gone. Returns at once where there is none; otherwise only then."""
    fd_text = os.environ.get(LIFELINE_ENV, "")
    if not fd_text.isdigit():
        return
    die_with_parent()
    fd, loop, ended = int(fd_text), asyncio.get_running_loop(), asyncio.Event()
    os.set_blocking(fd, False)

    def readable() -> None:
        try:
            if os.read(fd, 64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # a broken lifeline is a lost one
        loop.remove_reader(fd)
        ended.set()

    loop.add_reader(fd, readable)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(fd)
    log.warning("supervisor is gone")
    stop.set()
    loop.call_later(STOP_DEADLINE_S, os._exit, 1)


class Stoppable(Protocol):
    """A server that ends when this is set: uvicorn's."""

    should_exit: bool


@asynccontextmanager
async def ends_with_parent(server: Stoppable) -> AsyncIterator[None]:
    """Within, the server is told to end when the supervisor that started this process is gone."""
    parent_gone = asyncio.Event()

    async def stop_when_alone() -> None:
        await parent_gone.wait()
        server.should_exit = True

    watching = [asyncio.create_task(watch_parent(parent_gone)), asyncio.create_task(stop_when_alone())]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
