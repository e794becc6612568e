"""uvicorn's WebSocket protocol with five additions: the application gets the transport for its outbox, has each
message by a call instead of a queue, may close with a code of its own at any time, pongs are bounded, and so are
frames that are no whole message.

It stays the ASGI server for the handshake and the closing handshake, and its parser takes every frame that is not an
unfragmented message which arrived whole.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled part for this platform
    from websockets.utils import apply_mask

from chatkernel.errors import Close
from chatpod.meter import Bucket

EXTENSION = "chat.socket"
"""The scope extension whose `protocol` is this object."""

CLOSE_GRACE_S = 3.0
"""How long a client may take to answer a close frame before the connection is cut."""
FLOOD_GRACE_S = 0.5
"""The same for a client of which nothing more is read: time for the close frame to arrive."""

PONGS_UNSENT_MAX_BYTES = 64 * 1024
"""Pongs that may wait for a client beside its outbox; with more it is cut. Far above what an honest client asks for:
some 500 of the longest pings, all while it reads too little."""


PIECES_PER_S, PIECES_BURST = 500.0, 2_500
"""Control frames, and frames that are a part of a message only: a connection may send so many. The messages
themselves are counted by the application."""

PARSED_AT_ONCE_BYTES = 16 * 1024
"""The parser takes all that it is given before anybody can count: at most this, which is some 2,700 frames."""

PARTS_KEPT = 64
"""Parts of a message after which they are joined: what is kept of it is bounded by its bytes, not by its parts."""

_TEXT, _BINARY = 0x81, 0x82
"""First bytes of unfragmented frames (RFC 6455 section 5.2)."""
_MASKED = 0x80
_LENGTH_16_BITS = 126


class Listener(Protocol):
    """The application's side of a socket."""

    def take(self, data: bytes, is_text: bool) -> None:
        """A message's bytes, and whether it came as text; UTF-8 is not checked yet."""

    def broken(self, code: int) -> None:
        """The client broke the rules of the transport; it is closed with this code after what is written now."""


class Mailbox:
    """What uvicorn puts messages of ASGI into. An `asyncio.Queue` costs every idle connection 2 KiB."""

    __slots__ = ("_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[Any] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._items

    def put_nowait(self, item: Any) -> None:
        if self._items is None:
            self._items = []
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Any:
        """The oldest; waits for one. For one reader."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        item = self._items.pop(0)
        if not self._items:
            self._items = None
        return item


def _always() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


class PodWebSocketProtocol(WebSocketsSansIOProtocol):
    _listener: Listener | None = None
    _direct = False
    """Whether messages go to the listener, or to the queue until it has taken what is there."""
    _pongs_bytes = 0
    """Pongs written since the transport was last seen with nothing unsent."""

    _pieces: Bucket | None = None
    _flooded = False

    _writable = _always()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mailbox = Mailbox()
        self.queue = cast(Any, self._mailbox)
        # Only the handshake is written through ASGI; what the outbox writes is bounded there.
        self.writable = self._writable

    def pause_writing(self) -> None:
        pass

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            # The task that runs the application starts in a later turn of the loop: it sees this.
            scope["extensions"][EXTENSION] = {"protocol": self}

    def data_received(self, data: bytes) -> None:
        if self._direct and self._listener is not None and self._parser_is_between_messages():
            data = self._take_whole_messages(data, self._listener)
            if not data:
                return
        self.conn.max_message_size = self.config.ws_max_size
        for start in range(0, len(data), PARSED_AT_ONCE_BYTES):
            if self._flooded:
                return
            super().data_received(data[start : start + PARSED_AT_ONCE_BYTES])

    def _parser_is_between_messages(self) -> bool:
        return (
            not self.conn.reader.buffer and self.conn.current_size is None and self.conn.state is State.OPEN
        )

    def _take_whole_messages(self, data: bytes, listener: Listener) -> bytes:
        """Hand over the messages that `data` begins with, as far as they are whole and in one frame each; the rest is
        for the parser, with all that is wrong with it. The parser's generators cost four times this."""
        start, size, largest = 0, len(data), self.config.ws_max_size
        while size - start >= 6 and not self.close_sent:
            first, length = data[start], data[start + 1] - _MASKED
            if first not in (_TEXT, _BINARY) or not 0 <= length <= _LENGTH_16_BITS:
                break
            key = start + 2
            if length == _LENGTH_16_BITS:
                length = (data[key] << 8) | data[key + 1]
                key += 2
            begin, end = key + 4, key + 4 + length
            if end > size or length > largest:
                break
            listener.take(apply_mask(data[begin:end], data[key:begin]), first == _TEXT)
            start = end
        return data[start:] if start else data

    def handle_text(self, event: Frame) -> None:
        if event.fin or self._may_send_piece():
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if event.fin or self._may_send_piece():
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        if self._may_send_piece():
            if len(self.frames) >= PARTS_KEPT:
                self.frames = [b"".join(self.frames)]
            super().handle_cont(event)

    def handle_pong(self, event: Frame) -> None:
        if self._may_send_piece():
            super().handle_pong(event)

    def _may_send_piece(self) -> bool:
        """Count one; the first that is too much ends the connection, and what else was read is not looked at."""
        if self._flooded:
            return False
        now_s = self.loop.time()
        if self._pieces is None:
            self._pieces = Bucket(PIECES_PER_S, PIECES_BURST, now_s)
        if self._pieces.take(now_s) == 0:
            return True
        self._flooded = True
        if self._listener is not None:
            self._listener.broken(Close.RATE_LIMITED)
        self.close_with(Close.RATE_LIMITED, "too many control frames or parts", FLOOD_GRACE_S)
        self.transport.pause_reading()
        return False

    def send_receive_event_to_app(self) -> None:
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        is_text = self.curr_msg_data_type == "text"
        if self._direct and self._listener is not None:
            self._listener.take(bytes(data), is_text)
            return
        message: dict[str, Any] = {"type": "websocket.receive", "bytes": bytes(data)}
        self._mailbox.put_nowait(message | {"text": None} if is_text else message)
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def attach(self, listener: Listener | None) -> None:
        """None lets it go: each refers to the other."""
        self._listener, self._direct = listener, False

    def deliver_directly(self) -> None:
        """From now on messages go to the listener, unless some are in the queue, which must not be overtaken."""
        self._direct = self._mailbox.empty()

    def handle_parser_exception(self) -> None:
        if self._listener is not None and self.conn.close_sent is not None:
            self._listener.broken(self.conn.close_sent.code)
        super().handle_parser_exception()

    def handle_ping(self) -> None:
        if not self._may_send_piece():
            return
        # Those of all pings that were read at once: none is left for the next.
        pongs = b"".join(self.conn.data_to_send())
        if not pongs or self.close_sent or self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size() == 0:
            self._pongs_bytes = 0
        elif self._pongs_bytes > PONGS_UNSENT_MAX_BYTES:
            # A close frame would only wait behind what is not read; and the application may write until it is told.
            self.transport.abort()
            return
        self._pongs_bytes += len(pongs)
        self.transport.write(pongs)

    def close_with(self, code: int, reason: str, grace_s: float = CLOSE_GRACE_S) -> None:
        """Send a close frame now; the client's answer, or the end of its time for it, ends the connection."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(grace_s, self.transport.abort)
