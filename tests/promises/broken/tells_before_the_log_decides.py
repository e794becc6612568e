"""Broken: events are told with the seq that the pod hopes for, before the log has decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from switch import is_on

from chatkernel.appender import Appender
from chatkernel.storage.model import InsertOutcome, Run


class _TellFirst:
    def __init__(self, appender: Appender, log: Any) -> None:
        self._appender, self._log = appender, log

    async def insert(self, runs: Sequence[Run]) -> list[InsertOutcome]:
        if is_on(__name__):
            self._appender._on_stored([event for run in runs for event in run.events])
        outcomes: list[InsertOutcome] = await self._log.insert(runs)
        return outcomes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def install() -> None:
    real = Appender.__init__

    def init(self: Appender, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        self._log = _TellFirst(self, self._log)  # type: ignore[assignment]

    Appender.__init__ = init  # type: ignore[method-assign]
