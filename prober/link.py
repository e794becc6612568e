"""One connection to a chat pod, as any client has one."""

from __future__ import annotations

import asyncio
import itertools
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from chatkernel.protocol import (
    SUBPROTOCOL_JSON,
    Ack,
    Error,
    Event,
    Hello,
    Migrate,
    Ping,
    Send,
    ServerFrame,
    Welcome,
    decode_server_json,
    encode_json,
)

OPEN_TIMEOUT_S = 4.0
"""For the handshake, and once more for the answer to `hello`."""
WAITING_MAX = 50
"""Frames that wait for a pod which reads nothing."""
FRAME_MAX_BYTES = 4 * 1024 * 1024
CLIENT = "prober"


class LinkError(Exception):
    """There is no connection, or no more. `code` is the pod's own reason, if it gave one."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class Listener(Protocol):
    """Who is told what comes."""

    def acknowledged(self, message_id: str) -> None: ...

    def refused(self, message_id: str, code: str) -> None: ...

    def arrived(self, event: Event) -> None: ...


class Link:
    """`open`, then `run` until it ends."""

    def __init__(self, socket: ClientConnection, listener: Listener) -> None:
        self._socket, self._listener = socket, listener
        self._ids = itertools.count(1)
        self._heartbeat_s = 10.0
        self._writing: set[asyncio.Task[None]] = set()
        self.live = False
        """It has said hello, and is to hear of everything from now on."""

    @classmethod
    async def open(cls, url: str, ticket: str, listener: Listener) -> Link:
        """Raises LinkError."""
        try:
            socket = await connect(
                url,
                subprotocols=[Subprotocol(SUBPROTOCOL_JSON)],
                compression=None,
                ping_interval=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1.0,
                max_size=FRAME_MAX_BYTES,
                proxy=None,
            )
        except (OSError, WebSocketException) as error:  # TimeoutError is an OSError
            raise LinkError(f"{type(error).__name__}: {error}") from error
        link = cls(socket, listener)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await link._say_hello(ticket)
        except BaseException as error:
            await link.close()
            if isinstance(error, TimeoutError | WebSocketException):
                raise LinkError(f"hello: {type(error).__name__}: {error}") from error
            raise
        return link

    async def run(self) -> None:
        """Take what comes until the connection ends, or the pod wants it to move."""
        beating = asyncio.create_task(self._beat(), name="link-beat")
        try:
            while True:
                frame = await self._next()
                if isinstance(frame, Migrate):
                    return
                self._take(frame)
        except WebSocketException:
            return
        finally:
            self.live = False
            beating.cancel()
            await self.close()

    def send(self, channel_id: str, message_id: str) -> None:
        """A message whose acknowledgement, or refusal, the listener hears of."""
        self._write(Send(message_id, channel_id, message_id, f"probe {message_id}"))

    async def close(self) -> None:
        for task in self._writing:
            task.cancel()
        await self._socket.close()

    async def _say_hello(self, ticket: str) -> None:
        hello = f"hello-{next(self._ids)}"
        await self._socket.send(encode_json(Hello(hello, ticket, client=CLIENT)).decode())
        while True:
            frame = await self._next()
            match frame:
                case Welcome(heartbeat_interval_s=seconds):
                    self._heartbeat_s = seconds
                case Ack(id=answered) if answered == hello:
                    self.live = True
                    return
                case Error(code=code, detail=detail):
                    raise LinkError(f"{code}: {detail}", code)
                case _:
                    self._take(frame)

    async def _next(self) -> ServerFrame:
        while True:
            data = await self._socket.recv(decode=False)
            try:
                return decode_server_json(data)
            except msgspec.DecodeError:
                continue  # of a newer pod: clients ignore what they do not know

    def _take(self, frame: ServerFrame) -> None:
        match frame:
            case Event():
                self._listener.arrived(frame)
            case Ack(id=frame_id):
                self._listener.acknowledged(frame_id)
            case Error(id=str(frame_id), code=code):
                self._listener.refused(frame_id, code)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self._write(Ping(f"ping-{next(self._ids)}"))

    def _write(self, frame: Send | Ping) -> None:
        # In a task: a pod that reads nothing any more holds up nobody but itself.
        if len(self._writing) >= WAITING_MAX:
            return
        task = asyncio.create_task(self._put(encode_json(frame).decode()), name="link-write")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _put(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except WebSocketException:
            return  # the reading side tells
