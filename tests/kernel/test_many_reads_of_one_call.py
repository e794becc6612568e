"""Reads that are made together: a few at a time, and none any more when one has failed."""

from __future__ import annotations

import asyncio

import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.storage.together import AT_ONCE, gathered


async def test_answers_come_in_order_and_few_are_on_their_way() -> None:
    under_way = most = 0

    async def read(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(number % 3):
            await asyncio.sleep(0)
        under_way -= 1
        return number

    assert await gathered([read(number) for number in range(5 * AT_ONCE)]) == list(range(5 * AT_ONCE))
    assert most == AT_ONCE
    assert await gathered([]) == []


@pytest.mark.filterwarnings("error")
async def test_after_a_failure_none_begins_and_those_that_have_begun_end() -> None:
    begun: list[int] = []
    ended = asyncio.Semaphore(0)
    answered = asyncio.Event()

    async def read(number: int) -> None:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 3:
            raise ChatError(Code.STORAGE_UNAVAILABLE)
        await answered.wait()
        ended.release()

    with pytest.raises(ChatError):
        await gathered([read(number) for number in range(5 * AT_ONCE)])
    answered.set()
    for _ in range(AT_ONCE - 1):
        await ended.acquire()
    assert begun == list(range(AT_ONCE))
