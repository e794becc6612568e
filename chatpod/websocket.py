"""uvicorn's WebSocket protocol with four additions: the application gets the transport for its outbox, may close
with a code of its own at any time, reading is paused only when frames really pile up, and pongs are bounded.

It stays the ASGI server for the handshake, incoming frames and the closing handshake.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION = "chat.socket"
"""The scope extension whose `protocol` is this object."""

RECEIVE_QUEUE_FRAMES = 32
"""Frames read ahead of the application before the socket is no longer read. uvicorn pauses after each one, which
costs two system calls a frame."""

CLOSE_GRACE_S = 3.0
"""How long a client may take to answer a close frame before the connection is cut."""

PONGS_UNSENT_MAX_BYTES = 64 * 1024
"""Pongs that may wait for a client beside its outbox; with more it is cut. Far above what an honest client asks for:
some 500 of the longest pings, all while it reads too little."""


class PodWebSocketProtocol(WebSocketsSansIOProtocol):
    _pongs_bytes = 0
    """Pongs written since the transport was last seen with nothing unsent."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            # The task that runs the application starts in a later turn of the loop: it sees this.
            scope["extensions"][EXTENSION] = {"protocol": self}

    def send_receive_event_to_app(self) -> None:
        if self.close_sent or self.queue.qsize() >= RECEIVE_QUEUE_FRAMES or self.curr_msg_data_type != "text":
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        # UTF-8 is checked by the decoder of the frame, which names the error.
        self.queue.put_nowait({"type": "websocket.receive", "bytes": bytes(data), "text": None})

    def handle_ping(self) -> None:
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

    def close_with(self, code: int, reason: str) -> None:
        """Send a close frame now; the client's answer, or CLOSE_GRACE_S, ends the connection."""
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(CLOSE_GRACE_S, self.transport.abort)
