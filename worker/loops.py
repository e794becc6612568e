"""Work that is done again and again, through outages of what it works on."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable

from chatkernel.errors import ChatError, Code

log = logging.getLogger(__name__)

_AWAY = {
    Code.REDIS_UNAVAILABLE: "redis",
    Code.STORAGE_UNAVAILABLE: "store",
    Code.STORAGE_FULL: "store",
    Code.STORAGE_DAMAGED: "store",
    # Other parts say it, too, but to jobs, which try again by themselves. What reaches a loop is the store's: it has
    # no connection to spare.
    Code.BUSY: "store",
}


class Outages:
    """What is away, over all loops: logged when the first notices, and when the last works again."""

    def __init__(self) -> None:
        self._loops: dict[str, set[str]] = defaultdict(set)

    def names(self) -> list[str]:
        return sorted(what for what, loops in self._loops.items() if loops)

    def failed(self, loop: str, what: str, error: Exception) -> None:
        self.worked(loop, but=what)
        if not self._loops[what]:
            # An outage needs no stack; a fault of our own does.
            fault = error if what.startswith("fault") else None
            log.warning("work interrupted", extra={"away": what, "error": str(error)}, exc_info=fault)
        self._loops[what].add(loop)

    def worked(self, loop: str, but: str | None = None) -> None:
        for what, loops in self._loops.items():
            if what != but and loop in loops:
                loops.discard(loop)
                if not loops:
                    log.info("work resumed", extra={"was_away": what})


class Loop:
    """Runs one kind of work at an interval."""

    def __init__(
        self, name: str, interval_s: float, step: Callable[[], Awaitable[None]], outages: Outages
    ) -> None:
        self.name, self._interval_s, self._step, self._outages = name, interval_s, step, outages
        self.steps = 0
        """Steps done without an error."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._step()
            except ChatError as error:
                self._outages.failed(self.name, _AWAY.get(error.code, f"fault:{self.name}"), error)
            except Exception as error:  # noqa: BLE001 - one bad step must not end the work for good
                self._outages.failed(self.name, f"fault:{self.name}", error)
            else:
                self.steps += 1
                self._outages.worked(self.name)
            await asyncio.sleep(self._interval_s)
