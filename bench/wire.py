"""Client frames ready to write, and answers counted where they arrive: decoding would cost more than the pod.

Nothing here is a WebSocket library. The client masks with the key 0: masking changes nothing, and a frame
is its header and its text; the server unmasks as always. Answers are counted by a marker that cannot occur
inside a JSON string (a quote in a string is escaped).
"""

from __future__ import annotations

import re
import struct
import time

EVENT = b'"type":"event"'
ACK = b'"type":"ack"'
ERROR = b'"type":"error"'
PAGE = b'"type":"page"'
END = ord("}")

MESSAGE_BYTES = 200
"""The text of every message, as in the issue's table."""

STAMP = re.compile(rb'"text":"@(\d{16})')
"""When the text was written to the socket (Unix µs), at its beginning."""

_STAMP_BYTES = 17
_FILLER = ("the quick brown fox jumps over " * 8)[: MESSAGE_BYTES - _STAMP_BYTES - 1]


def client_frame(payload: bytes) -> bytes:
    """A complete masked text frame (key 0)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x81, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x81, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x81, 0xFF, size)
    return head + b"\0\0\0\0" + payload


def server_frame(payload: bytes) -> bytes:
    """A complete unmasked text frame, as a server writes it."""
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


def pong_for(data: bytes | bytearray) -> bytes | None:
    """The pong that answers a protocol ping at the start of `data`, or None if there is none."""
    if len(data) < 2 or data[0] != 0x89 or len(data) < 2 + data[1]:
        return None
    return struct.pack("!BB", 0x8A, 0x80 | data[1]) + b"\0\0\0\0" + bytes(data[2 : 2 + data[1]])


def upgrade_request(host: str, port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: chat.v1.json\r\n\r\n"
    ).encode()


class SendTemplate:
    """`send` frames of one sender in one channel: fixed length, so the header is made once."""

    def __init__(self, channel_id: str, prefix: str) -> None:
        body = (
            '{"type":"send","id":"%010d","channel_id":"'
            + channel_id
            + '","client_msg_id":"'
            + prefix
            + '%010d","text":"@%016d '
            + _FILLER
            + '"}'
        ).encode()
        # The header may hold a percent sign (a length), which `%` would take for its own.
        head = client_frame(body % (0, 0, 0))[: -len(body % (0, 0, 0))]
        self._template = head.replace(b"%", b"%%") + body

    def frame(self, number: int) -> bytes:
        return self._template % (number, number, time.time_ns() // 1000)


class Counts:
    """What arrived, over all connections of a client."""

    __slots__ = ("acks", "errors", "events", "first_error", "pages")

    def __init__(self) -> None:
        self.events = self.acks = self.pages = self.errors = 0
        self.first_error = ""


class FrameCounter:
    """Counts the frames of one connection in the bytes that arrive, however they are cut.

    Only what lies before the last `}` is counted; the rest is kept and put before the next bytes. No marker
    and no stamp contains that character, so nothing is counted twice or missed at a cut.
    """

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail = b""

    def cut(self, data: bytearray, size: int) -> int:
        """How much of data[:size] (which begins with the old tail) may be counted now; remembers the rest."""
        if size and data[size - 1] == END:
            if self.tail:
                self.tail = b""
            return size
        end = data.rfind(b"}", 0, size) + 1
        self.tail = bytes(data[end:size])
        return end


def first_error(data: bytearray, end: int) -> str:
    """The error frame in data[:end], for the message that ends the bench."""
    start = data.find(ERROR, 0, end)
    return (
        bytes(data[max(0, start - 2) : min(end, start + 300)]).decode(errors="replace") if start >= 0 else ""
    )
