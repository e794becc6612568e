"""A person's connection to one chat pod, by a ticket of the test's own making."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from support.services import SECRETS, Service, Shore
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from chatkernel.ids import new_device_id, new_user_id, now_ms
from chatkernel.protocol import (
    SUBPROTOCOL_JSON,
    Ack,
    ClientFrame,
    Error,
    Event,
    Hello,
    Migrate,
    Ping,
    Pong,
    Send,
    ServerFrame,
    Welcome,
    decode_server_json,
    encode_json,
)
from chatkernel.storage.model import Device, User
from chatkernel.storage.open import open_store
from chatkernel.tickets import TicketIssuer

WITHIN_S = 5.0


class PodSocket:
    """Notes all that comes."""

    def __init__(self, socket: ClientConnection, user_id: str) -> None:
        self.socket, self.user_id = socket, user_id
        self.frames: list[ServerFrame] = []
        self._numbers = itertools.count(1)
        self._came = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def at(cls, ground: Shore, pod: Service, user_id: str = "", path: str = "") -> PodSocket:
        """Somebody new, or this person by one more device, who has said hello."""
        user_id, device_id = await someone(ground, user_id)
        tickets = TicketIssuer(SECRETS, 30.0, now_ms)
        incarnation = (await pod.stats())["incarnation"]
        ticket, _ = tickets.issue(user_id, device_id, pod.name, incarnation)
        url = pod.url.replace("http", "ws", 1) + (path or "/v1/socket")
        socket = await connect(
            url, subprotocols=[Subprotocol(SUBPROTOCOL_JSON)], compression=None, proxy=None
        )
        client = cls(socket, user_id)
        await client.asked(Hello("hello", ticket))
        return client

    async def asked(self, frame: ClientFrame) -> ServerFrame:
        """The frame's `ack`, `pong` or `error`."""
        await self.socket.send(encode_json(frame).decode())
        return await self._wait(lambda f: isinstance(f, Ack | Error | Pong) and f.id == frame.id)

    async def send(self, channel_id: str, text: str) -> ServerFrame:
        number = next(self._numbers)
        return await self.asked(Send(f"s{number}", channel_id, f"{id(self)}-{number}", text))

    async def ping(self) -> None:
        assert isinstance(await self.asked(Ping(f"p{next(self._numbers)}")), Pong)

    async def text(self, text: str) -> Event:
        found = await self._wait(lambda frame: isinstance(frame, Event) and frame.text == text)
        assert isinstance(found, Event)
        return found

    async def welcome(self) -> Welcome:
        found = await self._wait(lambda frame: isinstance(frame, Welcome))
        assert isinstance(found, Welcome)
        return found

    async def came(self, kind: type[ServerFrame]) -> ServerFrame:
        """The first of this kind, which is then forgotten."""
        found = await self._wait(lambda frame: isinstance(frame, kind))
        self.frames.remove(found)
        return found

    async def told_to_move(self) -> bool:
        return bool(await self._wait(lambda frame: isinstance(frame, Migrate)))

    async def closed(self, within_s: float = WITHIN_S) -> int:
        """The code."""
        async with asyncio.timeout(within_s):
            await self._reading
        return self.socket.close_code or 0

    async def close(self) -> None:
        await self.socket.close()

    async def _read(self) -> None:
        try:
            while True:
                self.frames.append(decode_server_json(await self.socket.recv(decode=False)))
                self._came.set()
        except ConnectionClosed:
            self._came.set()

    async def _wait(self, wanted: Callable[[ServerFrame], bool]) -> ServerFrame:
        async with asyncio.timeout(WITHIN_S):
            while True:
                for frame in self.frames:
                    if wanted(frame):
                        return frame
                assert not self._reading.done(), f"closed with {self.socket.close_code}"
                self._came.clear()
                await self._came.wait()


async def someone(ground: Shore, user_id: str = "") -> tuple[str, str]:
    """A person, new unless one is named, with a new device."""
    store = await open_store(ground.store_url)
    try:
        if not user_id:
            user_id = new_user_id()
            await store.create_user(User(user_id, user_id.replace("_", "-"), "Somebody", now_ms()), "")
        device = Device(new_device_id(), user_id, "", now_ms(), now_ms())
        await store.add_device(device)
        return user_id, device.device_id
    finally:
        await store.aclose()
