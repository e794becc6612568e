"""Broken: syncs read events from somewhere that is a little behind, and heads from where they are true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from switch import is_on

from chatkernel.ids import now_ms
from chatkernel.protocol import Event
from chatkernel.reading import Reading
from chatkernel.storage.model import EventRange

BEHIND_MS = 100


class _Lagging:
    def __init__(self, log: Any) -> None:
        self._log = log

    async def events(self, ranges: Sequence[EventRange]) -> list[list[Event]]:
        found: list[list[Event]] = await self._log.events(ranges)
        if not is_on(__name__):
            return found
        newest = now_ms() - BEHIND_MS
        return [[event for event in events if event.created_at <= newest] for events in found]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def install() -> None:
    real = Reading.__init__

    def init(self: Reading, *args: Any) -> None:
        real(self, *args)
        self._log = _Lagging(self._log)  # type: ignore[assignment]

    Reading.__init__ = init  # type: ignore[method-assign]
