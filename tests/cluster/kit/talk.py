"""People who chat all the while, on the record, and a verdict at the end: the drill's people, and the test's faults.

A whole drill with a load is `chatctl drill --url`; this is for few people, so that what happens to each can be told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from chatclient.drill.checker import Verdict, check
from chatclient.drill.crowd import Crowd, Device, read_log
from chatclient.drill.histories import Latencies
from chatclient.drill.load import Load
from chatclient.drill.shape import DrillOptions, make_shape
from chatclient.http import new_http
from cluster.kit.api import eventually

PEOPLE, CHANNELS, MESSAGES_PER_S = 8, 4, 10.0
BACK_S = 60.0
"""Nobody may need longer to be connected, and to have everything."""


class Talk:
    """Who talks to whom at `url`, which can be a Service's address."""

    def __init__(self, url: str, people: int, channels: int, rate: float, seed: int) -> None:
        options = DrillOptions(users=people, channels=channels, rate=rate, devices=1.0, seed=seed)
        now = time.monotonic
        self._http = new_http(max_connections=64)
        self.latencies = Latencies(now)
        rng = Random(seed)
        self._crowd = Crowd(
            url, make_shape(options), self.latencies, http=self._http, rng=rng, now=now, book=None
        )
        self._load = Load(self._crowd, rate, Random(seed + 1), now)
        self._sending: asyncio.Task[None] | None = None

    @property
    def devices(self) -> list[Device]:
        """`client.pod`, `client.moves`, `recorder.losses` and `recorder.ups` say what befell each."""
        return self._crowd.devices

    @property
    def acked(self) -> int:
        return self._load.acked

    def on(self, pod: str) -> list[Device]:
        return [device for device in self.devices if device.client.pod == pod]

    def moves(self) -> list[int]:
        """How often each device has moved so far, as its pod asked it to."""
        return [device.client.moves for device in self.devices]

    def moved(self, before: list[int]) -> list[int]:
        """How often each has moved since."""
        return [now - was for now, was in zip(self.moves(), before, strict=True)]

    def losses(self) -> int:
        """Connections that were cut off while their device had no other."""
        return sum(len(device.recorder.losses) for device in self.devices)

    async def begin(self) -> None:
        await self._crowd.enter(lambda _: None)
        await self._crowd.make_rooms()
        await self._crowd.connect(lambda _: None)
        self._sending = asyncio.create_task(self._load.run(), name="people talk")

    async def goes_on(self, messages: int = 20, within_s: float = BACK_S) -> None:
        """Until so many more were acked, and everybody is connected: it works again, or still."""
        wanted = self._load.acked + messages

        async def done() -> bool:
            return self._load.acked >= wanted and all(device.client.in_sync for device in self.devices)

        await eventually(done, within_s, "people talk on")

    async def verdict(self) -> Verdict:
        """Nobody says more; everybody gets what is theirs by the usual means; then all is compared."""
        self._load.running = False
        if self._sending is not None:
            await self._sending

        async def settled() -> bool:
            return not self._load.open and all(device.client.in_sync for device in self.devices)

        await eventually(settled, BACK_S, "everything that was sent has an answer")
        logs = {
            room.channel_id: await read_log(room.members[0].api, room.channel_id)
            for room in self._crowd.rooms
        }
        heads = {channel_id: log[-1].seq for channel_id, log in logs.items() if log}

        async def level() -> bool:
            return all(
                seq >= heads.get(channel_id, 0)
                for device in self.devices
                for channel_id, seq in device.client.cursors.items()
            )

        await eventually(level, BACK_S, "everybody has everything")
        return check(self._load.sent, [device.history for device in self.devices], logs)

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._crowd.close()
        await self._http.aclose()


@asynccontextmanager
async def talking(
    url: str,
    *,
    people: int = PEOPLE,
    channels: int = CHANNELS,
    rate: float = MESSAGES_PER_S,
    seed: int = 1,
) -> AsyncIterator[Talk]:
    """People talk while the body runs; at its end no promise may have been broken. `rate` is messages per second."""
    talk = Talk(url, people, channels, rate, seed)
    try:
        await talk.begin()
        yield talk
        verdict = await talk.verdict()
        assert verdict.kept, f"{verdict}"
    finally:
        await talk.close()
