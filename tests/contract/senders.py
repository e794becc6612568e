"""People who send through appenders while the store is broken, and what they were told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from channel_log import ChannelLog

from chatkernel.appender import Appender
from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange
from chatkernel.storage.open import Store


class Senders:
    """Each sends one message after the other, and the same again when told that it may: as a client does. `acked` is
    what they hold us to: (channel, sender, number) → seq."""

    def __init__(self, stores: list[Store], logs: list[ChannelLog], senders: int = 4) -> None:
        self.logs = logs
        self.acked: dict[tuple[str, str, str], int] = {}
        self.refused: list[ChatError] = []
        self._appenders = [
            Appender(store, store, now_ms, before_insert=lambda _: None, on_stored=lambda _: None)
            for store in stores
        ]
        self._stop = False
        self._acks = asyncio.Condition()
        self._tasks = [
            asyncio.create_task(self._send(appender, log, f"u_{place}_{number}"))
            for place, appender in enumerate(self._appenders)
            for log in logs
            for number in range(senders)
        ]

    async def _send(self, appender: Appender, log: ChannelLog, sender: str) -> None:
        for number in count():
            if self._stop:
                return
            while True:
                try:
                    placed, _ = await appender.append(
                        channel_id=log.channel_id,
                        sender_id=sender,
                        client_msg_id=str(number),
                        kind=EventKind.MESSAGE,
                        members_seq=log.members_seq,
                        text="x" * 100,
                    )
                except ChatError as error:
                    assert error.retryable, error
                    self.refused.append(error)
                    await asyncio.sleep(error.retry_after_s or 0.05)
                else:
                    break
            async with self._acks:
                self.acked[log.channel_id, sender, str(number)] = placed.seq
                self._acks.notify_all()

    async def more(self, acks: int, within_s: float = 30.0) -> None:
        """Wait until so many more are acked."""
        wanted = len(self.acked) + acks
        async with asyncio.timeout(within_s), self._acks:
            await self._acks.wait_for(lambda: len(self.acked) >= wanted)

    async def end(self) -> None:
        """Each has got its last ack."""
        self._stop = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)
        for appender in self._appenders:
            await appender.aclose()

    async def check(self, store: Store) -> None:
        """Nothing acked is lost or elsewhere, nothing is there twice, and no log has a hole."""
        found: dict[tuple[str, str, str], int] = {}
        for log in self.logs:
            [events] = await store.events([EventRange(log.channel_id, 0, 1_000_000)])
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            messages = [event for event in events if event.kind is EventKind.MESSAGE]
            keys = {(log.channel_id, event.sender_id, event.client_msg_id): event.seq for event in messages}
            assert len(keys) == len(messages)
            found |= keys
        assert self.acked.items() <= found.items()


@asynccontextmanager
async def sending(*stores: Store, channels: int = 3, senders: int = 4) -> AsyncIterator[Senders]:
    """Senders through an appender for each of these stores (as of so many pods), in the same channels."""
    logs = [ChannelLog(stores[0]) for _ in range(channels)]
    for log in logs:
        await log.create("u_ann", "u_bob")
    people = Senders(list(stores), logs, senders)
    try:
        yield people
    finally:
        await people.end()
