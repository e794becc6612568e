"""Whether one of a 1:1 channel has blocked the other: asked for every frame there, remembered for seconds."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from chatkernel.batching import Coalescer
from chatkernel.errors import ChatError
from chatkernel.ids import is_direct
from chatkernel.storage.directory import People

log = logging.getLogger(__name__)

REMEMBER_S = 5.0
REMEMBER_MAX = 20_000


class Blocks:
    """Owns the short memory of pairs. A change of blocks clears it at once on every pod that the bus reaches."""

    def __init__(self, people: People, monotonic_s: Callable[[], float]) -> None:
        self._people, self._monotonic_s = people, monotonic_s
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._forgotten = 0
        self._lookups: Coalescer[str, bool] = Coalescer(self._look_up)
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, channel_id: str) -> bool | None:
        """Whether the pair is blocked, or None when it has to be asked."""
        if not is_direct(channel_id):
            return False
        entry = self._known.get(channel_id)
        if entry is None or entry[0] < self._monotonic_s():
            return None
        return entry[1]

    async def ask(self, channel_id: str) -> bool:
        return await self._lookups.call(channel_id)

    async def among(self, channel_ids: Sequence[str]) -> set[str]:
        """Those of the channels whose pair is blocked."""
        known = {channel_id: self.known(channel_id) for channel_id in channel_ids}
        unknown = [channel_id for channel_id, blocked in known.items() if blocked is None]
        if unknown:
            known.update(zip(unknown, await self._look_up(unknown), strict=True))
        return {channel_id for channel_id, blocked in known.items() if blocked}

    def unless_blocked(self, channel_id: str, do: Callable[[], None]) -> None:
        """Do it now, or after one look-up; never when that fails. In the order asked, for each channel."""
        waiting = self._waiting.get(channel_id)
        if waiting is not None:
            waiting.append(do)
            return
        blocked = self.known(channel_id)
        if blocked is None:
            if len(self._waiting) >= REMEMBER_MAX:
                return
            self._waiting[channel_id] = [do]
            task = asyncio.create_task(self._do_waiting(channel_id), name="blocks")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif not blocked:
            do()

    async def hidden_from(self, user_id: str, among: Sequence[str]) -> set[str]:
        """Those of the people who have blocked this one."""
        return await self._people.blockers(user_id, among) if among else set()

    def forget(self) -> None:
        self._forgotten += 1
        self._known.clear()

    async def _do_waiting(self, channel_id: str) -> None:
        blocked = True
        try:
            blocked = await self.ask(channel_id)
        except ChatError as error:
            log.debug("blocks not known", extra={"error": str(error)})
        except Exception:
            log.exception("blocks not known")
        for do in self._waiting.pop(channel_id):
            if not blocked:
                do()

    async def _look_up(self, channel_ids: Sequence[str]) -> list[bool]:
        before = self._forgotten
        blocked = await self._people.blocked_channels(channel_ids)
        if self._forgotten == before:  # otherwise this may be from before the change
            until_s = self._monotonic_s() + REMEMBER_S
            self._known.update((channel_id, (until_s, channel_id in blocked)) for channel_id in channel_ids)
            while len(self._known) > REMEMBER_MAX:
                self._known.popitem(last=False)
        return [channel_id in blocked for channel_id in channel_ids]
