"""The kernel's limit: one loop that writes the same ready frames to the same number of sockets.

It answers the load client's handshake with fixed bytes; then each request of a room's sender makes it write
one ready frame to every socket of that room, one `send(2)` a frame. Nothing is parsed, checked or stored.
`coalesced` joins what came in one round into one write per socket, as a pod's outbox does.
"""

from __future__ import annotations

import socket
from multiprocessing.connection import Connection

from bench import machine, wire
from bench.loop import Loop
from bench.remote import answer

_UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_HELLO_ACK = wire.server_frame(b'{"type":"ack","id":"h"}')
_SEND_ACK = wire.server_frame(
    b'{"type":"ack","id":"0000000001","channel_id":"local_g","seq":1000,"message_id":1}'
)
_SEND = b'"type":"send"'
_BACKLOG = 4096


class BareLoop:
    def __init__(self) -> None:
        machine.raise_file_limit()
        self.loop = Loop()
        self._rooms: dict[bytes, list[socket.socket]] = {}
        self._due: dict[bytes, int] = {}
        self._acks: list[socket.socket] = []
        self._frame = b""
        self._coalesced = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self.loop.add(self._listener.fileno(), self._accept)

    def hello(self) -> bool:
        return True

    def listen(self, payload: bytes) -> int:
        """The port; `payload` is the event frame's JSON that will be written."""
        self._frame = wire.server_frame(payload)
        return int(self._listener.getsockname()[1])

    def coalesce(self, on: bool) -> None:
        self._coalesced = on

    def _accept(self, _events: int) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
                self.loop.add(sock.fileno(), lambda _e, sock=sock: self._upgrade(sock))
        except BlockingIOError:
            return

    def _upgrade(self, sock: socket.socket) -> None:
        data = sock.recv(4096)
        room = data.partition(b" ")[2].partition(b" ")[0]
        self._rooms.setdefault(room, []).append(sock)
        self.loop.handlers[sock.fileno()] = lambda _e: self._hello(sock, room)
        sock.send(_UPGRADED)

    def _hello(self, sock: socket.socket, room: bytes) -> None:
        sock.recv(65536)
        self.loop.handlers[sock.fileno()] = lambda _e: self._requests(sock, room)
        sock.send(_HELLO_ACK)

    def _requests(self, sock: socket.socket, room: bytes) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.loop.drop(sock.fileno())
            return
        wanted = data.count(_SEND)
        if not wanted:
            return
        self._due[room] = self._due.get(room, 0) + wanted
        self._acks.extend([sock] * wanted)

    def _flush(self) -> None:
        due, self._due = self._due, {}
        acks, self._acks = self._acks, []
        for room, n in due.items():
            data, times = (self._frame * n, 1) if self._coalesced else (self._frame, n)
            for sock in self._rooms[room]:
                for _ in range(times):
                    try:
                        sock.send(data)
                    except BlockingIOError:
                        break  # the client is far behind: what it never got is not counted
        for sock in acks:
            sock.send(_SEND_ACK)

    def serve(self, pipe: Connection) -> None:
        gone = False

        def command(_events: int) -> None:
            nonlocal gone
            gone = not answer(pipe, self)

        self.loop.add(pipe.fileno(), command)
        while not gone:
            self.loop.pump(1.0)
            if self._due:
                self._flush()


def main(pipe: Connection) -> None:
    BareLoop().serve(pipe)
