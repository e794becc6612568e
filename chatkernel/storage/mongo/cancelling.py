"""Waits inside PyMongo that may be cancelled, on Python 3.11.

The driver waits for its locks' conditions by `asyncio.wait_for`. Before Python 3.12 that waits in a task of its own;
who is cancelled just when the time is up leaves that task behind, it takes the lock after all, and nobody gives it
back: no operation of the process gets a server any more. Since 3.12 `wait_for` is what is here.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

from pymongo import lock

Result = TypeVar("Result")


async def wait_for(awaitable: Awaitable[Result], timeout_s: float | None) -> Result:
    """Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        return await awaitable


def make_cancelling_safe() -> None:
    """Of all clients of this process."""
    if sys.version_info < (3, 12):
        setattr(lock, "wait_for", wait_for)  # noqa: B010 - the name is not the driver's to give away
