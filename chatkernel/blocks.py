"""Whether the two of a 1:1 channel may write to each other: asked for every send, remembered for seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from chatkernel.storage.directory import People
from chatkernel.storage.messages import Conversations

REMEMBER_S = 5.0
REMEMBER_MAX = 20_000


class Blocks:
    """Owns the short memory of pairs. A change of blocks clears it at once on every pod that the bus reaches."""

    def __init__(
        self, people: People, conversations: Conversations, monotonic_s: Callable[[], float]
    ) -> None:
        self._people, self._conversations, self._monotonic_s = people, conversations, monotonic_s
        self._known: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    def known(self, channel_id: str) -> bool | None:
        """Whether the pair is blocked, or None when it has to be asked."""
        entry = self._known.get(channel_id)
        if entry is None or entry[0] < self._monotonic_s():
            return None
        return entry[1]

    async def ask(self, channel_id: str) -> bool:
        members = await self._conversations.members(channel_id, limit=2)
        blocked = len(members) == 2 and await self._people.blocked_between(
            members[0].user_id, members[1].user_id
        )
        self._known[channel_id] = (self._monotonic_s() + REMEMBER_S, blocked)
        if len(self._known) > REMEMBER_MAX:
            self._known.popitem(last=False)
        return blocked

    def forget(self) -> None:
        self._known.clear()
