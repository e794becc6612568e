"""When what was read on PostgreSQL may be told: the commits that settle it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chatkernel.storage.sql.postgres_standby import Doubt


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Also what gives way to nobody, not even to a time-out of asyncio."""

    def too_late(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it did not end within {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def test_who_asks_just_when_a_commit_has_ended_that_was_too_early_for_him_gets_another() -> None:
    commits = 0
    others: list[asyncio.Task[None]] = []

    async def confirm() -> None:
        nonlocal commits
        commits += 1
        await asyncio.sleep(0)
        if commits == 1:
            doubt.arose()
            # Runs when this commit has ended, and before anybody has heard of it.
            others.append(asyncio.create_task(doubt.settle()))

    doubt = Doubt(confirm)
    with ends_within(5):
        await doubt.settle()
        await asyncio.gather(*others)
    assert commits == 2
