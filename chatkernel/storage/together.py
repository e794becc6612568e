"""Many reads of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar, cast

T = TypeVar("T")

AT_ONCE = 16
"""Reads of one call that are on their way at the same time."""


async def gathered(reads: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers in order. The first failure is raised, and then no other begins: of many that ask what is away each
    would take its time-out. Those on their way are left to end, for to cut one short costs its connection."""
    if len(reads) == 1:
        return [await reads[0]]
    gate = asyncio.Semaphore(AT_ONCE)
    failed = False

    async def one(read: Coroutine[Any, Any, T]) -> T:
        nonlocal failed
        try:
            async with gate:
                if failed:
                    return cast(T, None)  # nobody takes it
                return await read
        except BaseException:
            failed = True
            raise
        finally:
            read.close()  # it may not have begun

    return list(await asyncio.gather(*(one(read) for read in reads)))
