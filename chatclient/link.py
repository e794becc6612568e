"""One session on one chat pod: hello, requests and their answers, the heartbeat. Knows nothing of other
pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from chatclient.connection import Socket, open_socket
from chatclient.errors import Unreachable
from chatkernel import protocol as wire
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import (
    Ack,
    ClientFrame,
    Error,
    Event,
    Hello,
    Page,
    Ping,
    Pong,
    Presence,
    Seat,
    ServerFrame,
)
from chatkernel.protocol import Welcome as WelcomeFrame

OPEN_TIMEOUT_S = 3.0
"""TCP, TLS and the WebSocket handshake together."""

ANSWER_TIMEOUT_S = 10.0
"""For a request other than a command (those are sent again by the outbox)."""

PONG_TIMEOUT_MAX_S = 5.0
"""A pong is waited for at most this long, and at most half a heartbeat."""

PROBE_TIMEOUT_S = 2.0
"""When something else made the pod suspicious, it gets this long to answer a ping."""


def error_of(frame: Error) -> ChatError:
    """The catalogue's error that a server's frame means; a code that we do not know is INTERNAL."""
    try:
        code = Code(frame.code)
    except ValueError:
        code = Code.INTERNAL
    retry_after_s = None if frame.retry_after_ms is None else frame.retry_after_ms / 1000
    return ChatError(code, frame.detail, field=frame.field, limit=frame.limit, retry_after_s=retry_after_s)


class LinkOwner(Protocol):
    """Who is told what happens on a link."""

    def on_frame(self, link: Link, frame: ServerFrame) -> None: ...

    def on_link_closed(self, link: Link) -> None: ...


class _Request:
    __slots__ = ("future", "pages", "presence")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.pages: list[Page] = []
        self.presence: Presence | None = None


class Link:
    """An open socket with a session. `close_code` is None while it is open."""

    def __init__(
        self, seat: Seat, owner: LinkOwner, new_id: Callable[[], str], *, msgpack: bool = False
    ) -> None:
        self.seat, self.pod = seat, seat.pod
        self.close_code: int | None = None
        self.close_reason = ""
        self.welcome: WelcomeFrame | None = None
        self.migrating = False
        self.leave_by_s = 0.0
        self.leave_reason = ""
        self.gave_up = False
        """It was we who ended it, since the pod did not answer."""
        self.patient = False
        """Do not give up on a pod that does not answer: for those who test slow devices."""
        self._welcomed_at_s = 0.0
        self.socket: Socket | None = None
        self._owner, self._new_id = owner, new_id
        self._subprotocol = wire.SUBPROTOCOL_MSGPACK if msgpack else wire.SUBPROTOCOL_JSON
        self._encode = wire.encode_msgpack if msgpack else wire.encode_json
        self._decode = wire.decode_server_msgpack if msgpack else wire.decode_server_json
        self._requests: dict[str, _Request] = {}
        self._welcomed: asyncio.Future[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._pong_due: asyncio.TimerHandle | None = None

    # --- opening and closing ---

    async def open(self, hello: Hello, first_beat_share: float) -> None:
        """Connects, says hello and waits until everything behind the cursors is in.

        `first_beat_share` (0..1) of a heartbeat passes before the first ping, so that pings of many clients
        do not come together. Raises Unreachable, or ChatError when the pod refuses.
        """
        self.socket = await open_socket(
            self.seat.url, self._subprotocol, self._on_data, self._on_socket_closed, OPEN_TIMEOUT_S
        )
        try:
            synced = self._expect(hello.id)
            self._welcomed = asyncio.get_running_loop().create_future()
            self._write(hello)
            # The welcome has to come soon; the pages after a week away may take their time, but must keep
            # coming.
            await self._within(asyncio.wait({self._welcomed, synced}, return_when=asyncio.FIRST_COMPLETED))
            await self._answer(hello.id, synced)
        except BaseException:
            self.abort()
            raise
        if self.welcome is not None and self.close_code is None:
            self._beat_in(self.welcome.heartbeat_interval_s * (0.2 + 0.8 * first_beat_share))

    @property
    def is_open(self) -> bool:
        return self.close_code is None and self.socket is not None and self.socket.is_open

    def close(self, code: int = 1000) -> None:
        self._stop_timers()
        if self.socket is not None:
            self.socket.close(code)

    def abort(self) -> None:
        self._stop_timers()
        if self.socket is not None:
            self.socket.abort()

    # --- sending ---

    def send(self, frame: ClientFrame) -> None:
        """Sends without waiting for anything; the answer comes to `on_frame`."""
        self._write(frame)

    async def request(self, frame: ClientFrame) -> _Request:
        """Sends and waits for the ack, with the pages and presence that came before it.

        Raises ChatError (the pod's error) or Unreachable (the link died, or nothing came in time).
        """
        future = self._expect(frame.id)
        request = self._requests[frame.id]
        self._write(frame)
        await self._answer(frame.id, future)
        return request

    def until_s(self, server_ms: int) -> float:
        """How many seconds from now a moment of the pod's clock is. Our own clock may be wrong by hours."""
        if self.welcome is None:
            return 0.0
        since_welcome_s = asyncio.get_running_loop().time() - self._welcomed_at_s
        return (server_ms - self.welcome.server_time) / 1000 - since_welcome_s

    def probe(self) -> None:
        """Something looks wrong: unless a pong comes quickly, this link is given up."""
        self._ping(PROBE_TIMEOUT_S)

    # --- inside ---

    def _write(self, frame: ClientFrame) -> None:
        if self.socket is not None:
            self.socket.send(self._encode(frame))

    def _expect(self, frame_id: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests[frame_id] = _Request(future)
        return future

    async def _answer(self, frame_id: str, future: asyncio.Future[None]) -> None:
        try:
            await self._within(future)
        finally:
            self._requests.pop(frame_id, None)

    async def _within(self, waiting: object) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await waiting  # type: ignore[misc]
        except TimeoutError as error:
            raise Unreachable(f"{self.pod} did not answer") from error

    def _on_data(self, data: bytes) -> None:
        try:
            frame = self._decode(data)
        except msgspec.ValidationError:
            return  # a frame type or field of a newer server: a client ignores what it does not know
        except msgspec.DecodeError:
            self.close(1007)
            return
        kind = type(frame)
        if kind is Event:  # first, for nearly all of them are
            self._owner.on_frame(self, frame)
            return
        if kind is Ack or kind is Error:
            self._owner.on_frame(self, frame)
            self._settle(frame)  # type: ignore[arg-type]
            return
        if kind is Page or kind is Presence:
            self._collect(frame)  # type: ignore[arg-type]
        elif kind is Pong:
            self._on_pong()
        elif kind is WelcomeFrame:
            self.welcome = frame  # type: ignore[assignment]
            self._welcomed_at_s = asyncio.get_running_loop().time()
            if self._welcomed is not None and not self._welcomed.done():
                self._welcomed.set_result(None)
        self._owner.on_frame(self, frame)

    def _collect(self, frame: Page | Presence) -> None:
        request = self._requests.get(frame.id or "")
        if request is None:
            return
        if isinstance(frame, Presence):
            request.presence = frame
        elif frame.kind != "sync":  # those went to the sync state already
            request.pages.append(frame)

    def _settle(self, frame: Ack | Error) -> None:
        request = self._requests.get(frame.id or "")
        if request is None or request.future.done():
            return
        if isinstance(frame, Ack):
            request.future.set_result(None)
        else:
            request.future.set_exception(error_of(frame))

    def _on_socket_closed(self, code: int, reason: str) -> None:
        self._stop_timers()
        self.close_code, self.close_reason = code, reason
        for request in self._requests.values():
            if not request.future.done():
                request.future.set_exception(Unreachable(f"{self.pod} closed the connection ({code})"))
                request.future.exception()  # its waiter may be gone already
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_result(None)
        self._owner.on_link_closed(self)

    # --- heartbeat: timers instead of a task, for there may be thousands of links ---

    def _beat_in(self, delay_s: float) -> None:
        self._beat = asyncio.get_running_loop().call_later(delay_s, self._on_beat)

    def _on_beat(self) -> None:
        assert self.welcome is not None  # noqa: S101 - beats start after the welcome
        interval_s = self.welcome.heartbeat_interval_s
        self._beat_in(interval_s)
        self._ping(min(PONG_TIMEOUT_MAX_S, interval_s / 2))

    def _ping(self, timeout_s: float) -> None:
        if not self.is_open:
            return
        loop = asyncio.get_running_loop()
        if self._pong_due is not None:
            if self._pong_due.when() <= loop.time() + timeout_s:
                return
            self._pong_due.cancel()
        self._pong_due = loop.call_later(timeout_s, self._on_pong_missed)
        self._write(Ping(self._new_id()))

    def _on_pong(self) -> None:
        if self._pong_due is not None:
            self._pong_due.cancel()
            self._pong_due = None

    def _on_pong_missed(self) -> None:
        self._pong_due = None
        if not self.patient:
            self.gave_up = True
            self.abort()

    def _stop_timers(self) -> None:
        for timer in (self._beat, self._pong_due):
            if timer is not None:
                timer.cancel()
        self._beat = self._pong_due = None
