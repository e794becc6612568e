"""One client's outbox: what is written in a turn of the loop goes out as one write at its end.

Writing to the transport directly is what makes fan-out fast; so the bound on unsent bytes, which ASGI would give,
is kept here: a client that does not read is closed with a resumable code, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

from chatkernel.errors import Close
from chatpod.websocket import PodWebSocketProtocol


def text_frame(payload: bytes) -> bytes:
    """An unmasked, unfragmented text frame (RFC 6455 section 5.2)."""
    return _frame(0x81, payload)


def binary_frame(payload: bytes) -> bytes:
    return _frame(0x82, payload)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


class Flusher:
    """Owns the list of connections with something to write; one call at the end of the turn writes for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit_bytes: int) -> None:
        self._loop = loop
        self.limit_bytes = limit_bytes
        """What may wait unsent for one client."""
        self._dirty: list[Connection] = []

    def add(self, connection: Connection) -> None:
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()


class Connection:
    """Writes frames in order. After `close` nothing more is written."""

    __slots__ = ("_flusher", "_on_slow", "_out", "_protocol", "_transport", "binary", "closed")

    def __init__(
        self,
        protocol: PodWebSocketProtocol,
        flusher: Flusher,
        binary: bool,
        on_slow: Callable[[Connection], None],
    ) -> None:
        self._protocol, self._flusher = protocol, flusher
        self._transport = protocol.transport
        self._on_slow = on_slow
        self._out: Any = None
        """None, one frame, or a list of frames: most turns have one, and a list costs more than it."""
        self.binary, self.closed = binary, False

    def write(self, frame: bytes) -> None:
        """Queue a whole WebSocket frame (or several, joined)."""
        out = self._out
        if out is None:
            if self.closed:
                return
            self._out = frame
            self._flusher.add(self)
        elif out.__class__ is list:
            out.append(frame)
        else:
            self._out = [out, frame]

    def flush(self) -> None:
        out, self._out = self._out, None
        transport = self._transport
        if out is None or transport.is_closing():
            return
        # Only what earlier turns left unsent counts: a large page to a client that reads is no sin. Nothing is added
        # to a backlog that is too large: it holds what the limit allows and one turn's writes, and no more.
        if transport.get_write_buffer_size() > self._flusher.limit_bytes:
            if not self.closed:
                self._on_slow(self)
            return
        transport.write(out if out.__class__ is bytes else b"".join(out))

    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self, code: Close, reason: str = "") -> None:
        """Write what is queued and a close frame; the connection is cut if the client does not answer in time."""
        if self.closed:
            return
        self.flush()
        if self.closed:  # as a slow one, which the flush found
            return
        self.closed = True
        self._protocol.close_with(code, reason)
