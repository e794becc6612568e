"""Sending at a rate, and trying what must not work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random

from chatclient.drill.crowd import Crowd, Person, Room
from chatclient.drill.histories import Intrusion, Sent
from chatclient.errors import Closed, Unreachable
from chatkernel.errors import ChatError
from chatkernel.ids import new_client_msg_id
from chatkernel.protocol import Ack, History, Page, Send, Sync

TICK_S = 0.02
TEXT = "The quick brown fox jumps over the lazy dog while nobody in particular is watching. " * 2
INTRUSION_EVERY_S = 0.25


class Load:
    """Sends from many devices until stopped. `sent` is everything ever tried."""

    def __init__(self, crowd: Crowd, rate: float, rng: Random, now: Callable[[], float]) -> None:
        self.sent: list[Sent] = []
        self.acked = 0
        self.running = True
        self._crowd, self._rate, self._rng, self._now = crowd, rate, rng, now
        self._prefix = new_client_msg_id()[:6]  # accounts and 1:1s are kept: two drills must not share keys
        self._weights = list(crowd.shape.weights)

    @property
    def open(self) -> int:
        """Sends that have not ended."""
        return sum(sent.acked_at is None and not sent.error for sent in self.sent)

    def open_from_before(self, at: float) -> int:
        """Of those that were tried by then."""
        return sum(sent.acked_at is None and not sent.error and sent.sent_at <= at for sent in self.sent)

    def heads(self) -> dict[str, int]:
        """The highest seq that was acked, by channel."""
        heads: dict[str, int] = {}
        for sent in self.sent:
            if sent.acked_at is not None and sent.seq > heads.get(sent.channel_id, 0):
                heads[sent.channel_id] = sent.seq
        return heads

    async def run(self) -> None:
        """An open loop: the rate does not wait for answers."""
        started, count = self._now(), 0
        while self.running:
            due = int((self._now() - started) * self._rate)
            for room in self._rng.choices(self._crowd.rooms, self._weights, k=max(0, due - count)):
                self._send(room)
            count = due
            await asyncio.sleep(TICK_S)

    def _send(self, room: Room) -> None:
        person = self._rng.choice(room.members)
        device = self._rng.choice(person.devices)
        key = f"{self._rng.getrandbits(96):024x}"  # the drill's own seed; unguessable is not needed
        sent = Sent(room.channel_id, person.user_id, self._prefix + key, self._now())
        self.sent.append(sent)
        self._crowd.latencies.sent_at[sent.client_msg_id] = sent.sent_at
        try:
            future = device.client.submit(Send("-", sent.channel_id, sent.client_msg_id, TEXT))
        except Closed as error:
            sent.error = error.reason
        else:
            future.add_done_callback(partial(self._ended, sent))

    def _ended(self, sent: Sent, future: asyncio.Future[Ack]) -> None:
        if future.cancelled():
            sent.error = "cancelled"
            return
        error = future.exception()
        if error is not None:
            sent.error = str(error)
            return
        ack = future.result()
        self.acked += 1
        sent.acked_at, sent.seq, sent.message_id = self._now(), ack.seq or 0, ack.message_id or 0


class Intruders:
    """People who try to read and write where they are not, and one or two who were put out on the way."""

    def __init__(self, crowd: Crowd, rng: Random) -> None:
        self.tried: list[Intrusion] = []
        self.running = True
        self.removed: list[tuple[Person, Room]] = []
        self._crowd, self._rng = crowd, rng

    async def remove_members(self) -> None:
        """The owners put out those who are to be put out; from now on these are intruders too."""
        for room in self._crowd.rooms:
            person = room.removed
            if person is None:
                continue
            path = f"/v1/channels/{room.channel_id}/members/{person.user_id}"
            await _remove(room.members[0], path)
            self.removed.append((person, room))

    async def run(self) -> None:
        while self.running:
            person, room = self._target()
            if person is not None:
                await self._try(person, room)
            await asyncio.sleep(INTRUSION_EVERY_S)

    def _target(self) -> tuple[Person | None, Room]:
        if self.removed and self._rng.random() < 0.5:
            return self._rng.choice(self.removed)
        room = self._rng.choice(self._crowd.rooms)
        person = self._rng.choice(self._crowd.people)
        return (None if person in room.members or person is room.removed else person), room

    async def _try(self, person: Person, room: Room) -> None:
        what = self._rng.choice(["send", "send by socket", "read history", "sync"])
        frame_id, channel_id = f"i{len(self.tried)}", room.channel_id
        try:
            if what == "send by socket":
                client = person.devices[0].client
                await asyncio.wait_for(client.send(channel_id, "not for me to say"), 30)
                worked = True
            elif what == "send":
                key = new_client_msg_id()
                frames = await person.api.frames(Send(frame_id, channel_id, key, "not for me to say"))
                worked = any(isinstance(frame, Ack) for frame in frames)
            elif what == "sync":
                frames = await person.api.frames(Sync(frame_id, {channel_id: 0}))
                worked = any(isinstance(f, Page) and (f.events or channel_id in f.heads) for f in frames)
            else:
                frames = await person.api.frames(History(frame_id, channel_id))
                worked = any(isinstance(frame, Page) and frame.items for frame in frames)
        except (ChatError, Unreachable, Closed, TimeoutError):
            worked = False
        self.tried.append(Intrusion(person.user_id, channel_id, what, worked))


async def _remove(owner: Person, path: str) -> None:
    from chatclient.http import Nothing

    await owner.api.call("DELETE", path, kind=Nothing)
