"""Many reads of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

AT_ONCE = 16
"""Reads of one call that are on their way at the same time."""


async def gathered(reads: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers in order; the first failure is raised."""
    if len(reads) == 1:
        return [await reads[0]]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(read: Coroutine[Any, Any, T]) -> T:
        async with gate:
            return await read

    return list(await asyncio.gather(*(one(read) for read in reads)))
