"""A small writer of channel logs for the contract tests: what the appender does, without its races."""

from __future__ import annotations

from itertools import count
from typing import Any

from chatkernel.message_ids import message_id_at
from chatkernel.protocol import MEMBERSHIP_KINDS, Event, EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, InsertOutcome, Run
from chatkernel.storage.open import Store

START_MS = 1_790_000_000_000
STEP_MS = 1000
"""Each event of a channel is created so much after the one before."""

_numbers = count()


class ChannelLog:
    """Builds events on a remembered head."""

    def __init__(self, store: Store, channel_id: str = "", *, start_ms: int = START_MS) -> None:
        self.store = store
        self.channel_id = channel_id or f"local_g{next(_numbers):018d}"
        self.seq = self.messages = self.members_seq = 0
        self.start_ms = start_ms
        self._channel: ChannelInfo | None = None

    def event(self, kind: EventKind, sender_id: str, **fields: Any) -> Event:
        self.seq += 1
        if kind in MEMBERSHIP_KINDS:
            self.members_seq = self.seq
        at = self.start_ms + self.seq * STEP_MS
        made = Event(
            self.channel_id,
            self.seq,
            message_id_at(at),
            kind,
            sender_id,
            fields.pop("client_msg_id", f"c{self.seq}"),
            at,
            self.messages,
            self.members_seq,
            **fields,
        )
        self.messages += kind is EventKind.MESSAGE
        return made

    async def append(self, kind: EventKind, sender_id: str, **fields: Any) -> Event:
        made = self.event(kind, sender_id, **fields)
        outcome = await self.store.insert([Run(self.channel_id, (made,), self._channel)])
        self._channel = None
        assert outcome == [InsertOutcome.STORED]
        return made

    async def create(
        self,
        *users: str,
        kind: ChannelKind = ChannelKind.GROUP,
        name: str = "Team",
        history_from_start: bool = False,
    ) -> Event:
        self._channel = ChannelInfo(self.channel_id, kind, name, history_from_start)
        return await self.append(EventKind.CREATED, users[0], users=list(users), name=name)

    async def say(self, sender_id: str, text: str, **fields: Any) -> Event:
        return await self.append(EventKind.MESSAGE, sender_id, text=text, **fields)

    async def say_many(self, sender_id: str, number: int) -> list[Event]:
        events = [self.event(EventKind.MESSAGE, sender_id, text=f"m{n}") for n in range(number)]
        assert await self.store.insert([Run(self.channel_id, tuple(events))]) == [InsertOutcome.STORED]
        return events
