"""`asyncio.wait_for` as it is since Python 3.12, for older ones: PyMongo's sends and waits can be cancelled with it.

Before, it waited in a task of its own. Who was cancelled when that had just ended was not cancelled at all. And who
was cancelled when the time was up left it behind: where the driver waited for the condition of a lock, that task took
the lock after all, nobody gave it back, and no operation of the process got a server any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

from pymongo import lock

Result = TypeVar("Result")

_of_python = asyncio.wait_for


async def wait_for(fut: Awaitable[Result], timeout: float | None) -> Result:
    """Raises TimeoutError."""
    if timeout is not None and timeout <= 0:
        return await _of_python(fut, timeout)
    async with asyncio.timeout(timeout):
        return await fut


def make_cancelling_safe() -> None:
    """In this process. Others who use it lose nothing: it is what they get from a later Python."""
    if sys.version_info < (3, 12):
        for module in (asyncio, lock):
            setattr(module, "wait_for", wait_for)  # noqa: B010 - mypy knows no such attribute of the driver
