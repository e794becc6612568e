"""One WebSocket: a thin asyncio shell round the sans-I/O protocol of `websockets`.

Callbacks instead of a reading task and a queue: a frame that came in is handed on in the same turn of the
loop, and a process with thousands of connections has no task for each.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from chatclient.errors import Unreachable

ABNORMAL_CLOSE = 1006
"""What the WebSocket standard calls a connection that ended without a closing handshake."""

FRAME_MAX_BYTES = 16 * 1024 * 1024
"""The largest frame that a server may send us: pages of large messages."""

CLOSE_TIMEOUT_S = 2.0
"""How long we wait for the other side's closing frame."""

_WHOLE = (0x81, 0x82)
"""The first byte of a message in one frame, text or binary, by RFC 6455."""

OnData = Callable[[bytes], None]
OnClose = Callable[[int, str], None]


class Socket(asyncio.Protocol):
    """An open WebSocket. `on_close(code, reason)` is called once, last; after it nothing is delivered."""

    def __init__(self, protocol: ClientProtocol, on_data: OnData, on_close: OnClose) -> None:
        self._protocol, self._on_data, self._on_close = protocol, on_data, on_close
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._rest = b""
        self._by_parser = True
        self._binary = False
        self._closed = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- for the owner ---

    @property
    def is_open(self) -> bool:
        return not self._closed and self._protocol.state is State.OPEN

    def send(self, data: bytes) -> None:
        """Sends one message; silently nothing once the socket is closing (`on_close` tells of that)."""
        if not self.is_open:
            return
        if self._binary:
            self._protocol.send_binary(data)
        else:
            self._protocol.send_text(data)
        self._flush()

    def close(self, code: int = 1000) -> None:
        """Starts the closing handshake and gives the other side CLOSE_TIMEOUT_S for its half."""
        if self.is_open:
            self._protocol.send_close(code)
            self._flush()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)
        else:
            self.abort()

    def abort(self) -> None:
        """Drops the connection at once."""
        if self._transport is not None and not self._closed:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stops taking from the network, as an overloaded or frozen device does."""
        if self._transport is not None and not self._closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._closed:
            self._transport.resume_reading()

    # --- for asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self._by_parser or self._protocol.state is not State.OPEN:
            opened = self.opened.done()
            self._feed(data)
            if not opened and self.opened.done():
                # Frames that came in one piece with the handshake may have left the parser in the middle of
                # one.
                self._by_parser = not data.endswith(b"\r\n\r\n")
            return
        at = self._take_messages(data)
        self._rest = data[at:]

    def _take_messages(self, data: bytes) -> int:
        """Hands on the whole frames in `data`; where the first that is not whole begins.

        Nearly all frames are small whole messages, and finding their end is a few comparisons here against a
        tenfold in the general parser. That one gets everything else: control frames, fragments, what is
        wrong. It gets frames whole, so that it is between two frames whenever it is asked.
        """
        at, size = 0, len(data)
        while size - at >= 2:
            first, length, start = data[at], data[at + 1], at + 2
            if length == 126 and size - at >= 4:
                length, start = (data[at + 2] << 8) | data[at + 3], at + 4
            elif length == 127 and size - at >= 10:
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            elif length >= 126:
                if length > 127:  # masked, which a server must not do: the parser says so
                    self._feed(data[at:])
                    return size
                break
            if length > FRAME_MAX_BYTES:
                self._feed(data[at:])
                return size
            end = start + length
            if end > size:
                break
            if first in _WHOLE:
                self._on_data(data[start:end])
            else:
                self._feed(data[at:end])
            at = end
            if self._protocol.state is not State.OPEN:
                if at < size:
                    self._feed(data[at:])
                return size
        return at

    def _feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._handle_events()
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._handle_events()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._protocol.state is not State.CLOSED:
            self._protocol.receive_eof()
        if not self.opened.done():
            self.opened.set_exception(
                Unreachable(f"the connection broke in the handshake ({exc or 'closed'})")
            )
            self.opened.exception()  # the opener may have given up waiting: then nobody else looks at it
            return
        code = self._protocol.close_code
        self._on_close(ABNORMAL_CLOSE if code is None else code, self._protocol.close_reason or "")

    # --- inside ---

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or self._closed:
            return
        for data in self._protocol.data_to_send():
            if data:
                transport.write(data)
            else:
                transport.close()

    def _handle_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._handle_frame(event)
            elif isinstance(event, Response) and not self.opened.done():
                self._handle_response(event)
        if self._protocol.handshake_exc is not None and not self.opened.done():
            self.opened.set_exception(Unreachable(f"no WebSocket there ({self._protocol.handshake_exc})"))
            self.opened.exception()

    def _handle_response(self, response: Response) -> None:
        if self._protocol.handshake_exc is None:
            self._binary = str(self._protocol.subprotocol).endswith("msgpack")
            self.opened.set_result(None)
        else:
            self.opened.set_exception(Unreachable(f"the handshake was refused (HTTP {response.status_code})"))
            self.opened.exception()

    def _handle_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                self._on_data(bytes(frame.data))
            else:
                self._parts = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                parts, self._parts = self._parts, []
                self._on_data(b"".join(parts))


async def open_socket(
    url: str, subprotocol: str, on_data: OnData, on_close: OnClose, timeout_s: float
) -> Socket:
    """Connects and shakes hands. Raises Unreachable."""
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise Unreachable(f"not a WebSocket URL: {url}") from error
    protocol = ClientProtocol(uri, subprotocols=[Subprotocol(subprotocol)], max_size=FRAME_MAX_BYTES)
    socket: Socket | None = None
    try:
        async with asyncio.timeout(timeout_s):
            _, socket = await asyncio.get_running_loop().create_connection(
                lambda: Socket(protocol, on_data, on_close),
                uri.host,
                uri.port,
                ssl=ssl.create_default_context() if uri.secure else None,
            )
            await socket.opened
    except (OSError, TimeoutError, InvalidHandshake) as error:
        if socket is not None:
            socket.abort()
        raise Unreachable(f"cannot connect to {uri.host}:{uri.port} ({error or 'timed out'})") from error
    except BaseException:
        if socket is not None:
            socket.abort()
        raise
    return socket
