"""Broken: of a batch the later seqs are stored first, and the first one a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from switch import is_on

from chatkernel.appender import Appender
from chatkernel.storage.model import InsertOutcome, Run

LATER_S = 0.1


class _LastFirst:
    def __init__(self, log: Any) -> None:
        self._log = log

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        if is_on(__name__) and all(run.channel is None for run in runs):
            tails = [Run(run.channel_id, run.events[1:]) for run in runs if len(run.events) > 1]
            if tails:
                await self._log.insert(tails)
                await asyncio.sleep(LATER_S)
                runs = [Run(run.channel_id, run.events[:1]) for run in runs]
        outcomes: list[InsertOutcome] = await self._log.insert(runs)
        return outcomes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def install() -> None:
    real = Appender.__init__

    def init(self: Appender, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        self._log = _LastFirst(self._log)  # type: ignore[assignment]

    Appender.__init__ = init  # type: ignore[method-assign]
