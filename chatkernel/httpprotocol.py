"""uvicorn's HTTP protocol with bounds: how large the head of a request may be, and how long it may take.

uvicorn keeps URL and headers while they come, as many as come and as long as they take: without bounds a few
strangers could fill a pod's memory, or hold its connections for ever. What it cannot read at all it answers in plain
text; here that is a problem document as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from chatkernel.errors import ChatError, Code
from chatkernel.httplayer import problem_headers
from chatkernel.live import Live
from chatkernel.problems import encode_problem

HEADER_EXTRA_BYTES = 4
"""Colon, space and line end of a header."""

LINGER_S = 1.0
LINGER_MAX_BYTES = 4 * 1024 * 1024
"""How long, and for how much, a refused sender is read: a connection that is closed on a sender in full flow is
reset, and the answer lost with it."""


class _HeadRefused(Exception):
    """Stops the parser; the reason is on the protocol."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """A head is bounded twice: what the parser has handed over, exactly; and what it may still hold of a single
    header (or of a trailer behind a body) that goes on and on, by the bytes that came since a head began or a piece
    of a body came, not counting those of the same read. So the limit and one read of the socket are kept at most."""

    live = Live()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._parsed_bytes = 0
        self._held_bytes = 0
        self._refusal: ChatError | None = None
        self._lingered_bytes: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def timeout_keep_alive(self) -> int:
        """uvicorn reads it after each answer, and sets it once from its configuration."""
        return self.live.limits.keep_alive_s

    @timeout_keep_alive.setter
    def timeout_keep_alive(self, _: int) -> None:
        pass

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingered_bytes is not None:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_MAX_BYTES:
                self.transport.close()
            return
        self._held_bytes += len(data)
        super().data_received(data)
        refused = self._lingered_bytes is not None
        if refused or self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._held_bytes > self.live.limits.head_max_bytes:
            self._refuse(self._too_large())
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            # Also what is no head yet (empty lines), and the rest of a body whose request has been answered.
            self._expect_head()

    # --- what the parser finds ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._parsed_bytes = self._held_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + HEADER_EXTRA_BYTES)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._held_bytes = 0
        super().on_body(body)

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > self.live.limits.head_max_bytes:
            self._refusal = self._too_large()
            raise _HeadRefused

    def _too_large(self) -> ChatError:
        most = self.live.limits.head_max_bytes
        detail = f"The URL and headers may have at most {most} bytes"
        return ChatError(Code.HEAD_TOO_LARGE, detail, field="head", limit=most)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        other: Any = self.transport.get_protocol()
        if other.handshake_initiated or self.transport.is_closing():
            return
        # The WebSocket library could not read the head that we could, and has neither answered nor closed.
        self.connections.discard(other)
        self.connections.add(self)
        self.transport.set_protocol(self)
        exc = other.conn.handshake_exc
        if isinstance(exc, RequestLineTooLong | HeaderLineTooLong):
            detail = f"A line of a WebSocket's handshake may have at most {MAX_LINE_LENGTH} bytes"
            self._refuse(ChatError(Code.HEAD_TOO_LARGE, detail, field="head", limit=MAX_LINE_LENGTH))
        elif isinstance(exc, TooManyHeaders):
            detail = f"A WebSocket's handshake may have at most {MAX_NUM_HEADERS} headers"
            self._refuse(ChatError(Code.HEAD_TOO_LARGE, detail, field="head", limit=MAX_NUM_HEADERS))
        else:
            self._refuse(ChatError(Code.MALFORMED, "This is not a WebSocket's handshake", field="handshake"))

    # --- refusing -----------------------------------------------------------------------------------------

    def send_400_response(self, _msg: str) -> None:
        """Called when the parser has given up."""
        self._refuse(
            self._refusal or ChatError(Code.MALFORMED, "This is not an HTTP/1.1 request", field="head")
        )

    def _refuse(self, error: ChatError) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            in_its_body = cycle.more_body and not self._in_head
            if cycle.response_started or not in_its_body:
                # An earlier request is still owed its answer: that one is the last.
                cycle.keep_alive = False
                return
        self._stop_timer()
        body = encode_problem(error)
        headers = [*self.server_state.default_headers, *problem_headers(error)]
        if (b"connection", b"close") not in headers:
            headers.append((b"connection", b"close"))
        headers.append((b"content-length", str(len(body)).encode()))
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._lingered_bytes = 0
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)

    # --- time ---------------------------------------------------------------------------------------------

    def _expect_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.live.limits.head_timeout_s, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # The connection is at work for an earlier request, and may not even be read meanwhile.
            self._expect_head()
        elif self._in_head:
            limit_s = self.live.limits.head_timeout_s
            detail = f"The head of the request did not arrive within {limit_s:g} s"
            self._refuse(ChatError(Code.TOO_SLOW, detail, field="head", limit=int(limit_s)))
        else:
            self.transport.close()


def http_protocol(live: Live) -> type[BoundedHttpProtocol]:
    """The protocol class for uvicorn's `Config`, held to these limits."""
    return type("HttpProtocol", (BoundedHttpProtocol,), {"live": live})
