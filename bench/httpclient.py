"""Keep-alive HTTP connections of the load client: one request at a time on each."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable

from bench.errors import BenchError
from bench.loop import Loop

Answer = Callable[[int, bytes], None]


def post_request(host: str, port: int, path: str, token: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode() + data


def parse_response(data: bytes) -> tuple[int, bytes] | None:
    """Status and body once all of it is there. Only what our API sends: a Content-Length."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return (int(head[9:12]), body) if len(body) >= length else None


class HttpPool:
    """`size` connections; requests beyond that wait their turn."""

    def __init__(self, loop: Loop, host: str, port: int, size: int) -> None:
        self._loop, self._address, self._size = loop, (host, port), size
        self._free: list[HttpSocket] = []
        self._all: list[HttpSocket] = []
        self._waiting: deque[tuple[bytes, Answer]] = deque()

    def request(self, data: bytes, answer: Answer) -> None:
        if self._free:
            self._free.pop().start(data, answer)
        elif len(self._all) < self._size:
            fresh = HttpSocket(self._loop, self._address, self._released)
            self._all.append(fresh)
            fresh.start(data, answer)
        else:
            self._waiting.append((data, answer))

    def _released(self, freed: HttpSocket) -> None:
        if self._waiting:
            freed.start(*self._waiting.popleft())
        else:
            self._free.append(freed)

    def close(self) -> None:
        for each in self._all:
            each.close()
        self._all.clear()
        self._free.clear()


class HttpSocket:
    def __init__(self, loop: Loop, address: tuple[str, int], released: Callable[[HttpSocket], None]) -> None:
        self._loop, self._released = loop, released
        self._answer: Answer | None = None
        self._data = b""
        self._sock = socket.create_connection(address, timeout=5)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        loop.add(self._sock.fileno(), self._readable)

    def start(self, data: bytes, answer: Answer) -> None:
        self._answer, self._data = answer, b""
        if self._sock.send(data) != len(data):
            raise BenchError("the API does not read")

    def _readable(self, _events: int) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        if not data:
            raise BenchError("the API closed a connection")
        self._data += data
        response = parse_response(self._data)
        if response is None:
            return
        answer, self._answer = self._answer, None
        self._released(self)
        if answer is not None:
            answer(*response)

    def close(self) -> None:
        self._loop.drop(self._sock.fileno())
        self._sock.close()
