"""One WebSocket of the load client: upgrade, hello, and then bytes that are counted."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bench import machine, wire
from bench.errors import BenchError
from bench.loop import READ, WRITE
from bench.plans import Plan

if TYPE_CHECKING:
    from bench.loadclient import LoadClient

PING = wire.client_frame(b'{"type":"ping","id":"p"}')
CONNECT_TIMEOUT_S = 5.0
_BIND_ADDRESS_NO_PORT = 24
"""IP_BIND_ADDRESS_NO_PORT (Linux): the port is taken at connect, unique only per destination."""

_SO_TIMESTAMPNS = 35
"""Linux: each read says when its bytes reached the socket (CLOCK_REALTIME)."""
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


class ClientSocket(wire.FrameCounter):
    """`frame(number)` makes what it sends next; `in_flight` counts what was not answered yet."""

    __slots__ = (
        "_arrived_us",
        "_unsent",
        "client",
        "frame",
        "in_flight",
        "plan",
        "ready",
        "sending",
        "sent",
        "sock",
        "stamped",
    )

    def __init__(self, client: LoadClient, plan: Plan, source: str | None) -> None:
        super().__init__()
        self.client, self.plan = client, plan
        self.ready = self.sending = False
        self.in_flight = self.sent = 0
        self._unsent = b""
        self._arrived_us = 0
        self.frame: Callable[[int], bytes] | None = None
        if plan.channel_id:
            prefix = f"{client.run_id}{plan.device_id[-12:]}"
            self.frame = wire.SendTemplate(plan.channel_id, prefix).frame
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Closing throws away what is not sent: no socket lingers in TIME_WAIT between measurements.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stamped = plan.sampled and machine.LINUX
        if self.stamped:
            self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if source:
            self.sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            self.sock.bind((source, 0))
        self.sock.settimeout(CONNECT_TIMEOUT_S)
        try:
            self.sock.connect((plan.host, plan.port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setblocking(False)
        # A sampled one is read soon after what it measures came: one read has one time of arrival.
        client.loop.add(self.sock.fileno(), self.on_upgrade, first=plan.sampled)
        self.write(wire.upgrade_request(plan.host, plan.port, plan.path))

    def write(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            done = self.sock.send(data)
        except BlockingIOError:
            done = 0
        except OSError:
            return  # the read side tells
        if done < len(data):
            self._unsent = data[done:]
            self.client.loop.want(self.sock.fileno(), READ | WRITE)

    def _writable(self) -> None:
        data, self._unsent = self._unsent, b""
        self.client.loop.want(self.sock.fileno(), READ)
        self.write(data)

    def send_next(self) -> None:
        if self.frame is None:
            raise BenchError("this connection has nothing to send")
        self.sent += 1
        self.in_flight += 1
        self.client.sent += 1
        self.write(self.frame(self.sent))

    def _read(self) -> int:
        """New bytes behind the old tail in the client's buffer: how many now; -1: closed, 0: nothing."""
        client = self.client
        tail = self.tail
        try:
            size = len(tail)
            if tail:
                client.buffer[:size] = tail
            if self.plan.sampled:
                got = self._receive_stamped(size)
            else:
                got = self.sock.recv_into(client.view[size:] if size else client.buffer)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        return size + got if got else -1

    def _receive_stamped(self, start: int) -> int:
        """Read, and note when the last of it came to the socket: before this process, which is busy with all the
        others, had a look. What came before it in the same read is taken for as late."""
        view = self.client.view[start:]
        if not self.stamped:
            got = self.sock.recv_into(view)
            self._arrived_us = time.time_ns() // 1000
            return got
        got, ancillary, _, _ = self.sock.recvmsg_into([view], _ANCILLARY_BYTES)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                self._arrived_us = seconds * 1_000_000 + nanoseconds // 1000
        return got

    def on_upgrade(self, _events: int) -> None:
        size = self._read()
        if size <= 0:
            if size < 0:
                self.client.lost(self)
            return
        head = bytes(self.client.buffer[:size])
        if b"\r\n\r\n" not in head:
            self.tail = head
            return
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"upgrade refused: {head[:200]!r}")
        self.tail = b""
        plan = self.plan
        hello = {"type": "hello", "id": "h", "ticket": self.client.ticket(plan), "cursors": plan.cursors}
        self.client.loop.handlers[self.sock.fileno()] = self.on_hello
        self.write(wire.client_frame(json.dumps(hello).encode()))

    def on_hello(self, _events: int) -> None:
        size = self._read()
        if size <= 0:
            if size < 0:
                self.client.lost(self)
            return
        buffer = self.client.buffer
        end = self.cut(buffer, size)
        if buffer.find(wire.ERROR, 0, end) >= 0:
            raise BenchError(f"hello refused: {wire.first_error(buffer, end)}")
        self.client.hello_events += buffer.count(wire.EVENT, 0, end)
        if buffer.find(wire.ACK, 0, end) >= 0:
            self.ready = True
            self.client.loop.handlers[self.sock.fileno()] = self.on_ready
            self.client.became_ready(self)

    def on_ready(self, events: int) -> None:
        """The hot path."""
        if events & WRITE:
            self._writable()
        size = self._read()
        if size <= 0:
            if size < 0:
                self.client.lost(self)
            return
        client = self.client
        buffer = client.buffer
        if buffer[0] == 0x89:
            size = self._pong(size)
        end = self.cut(buffer, size)
        counts = client.counts
        counts.events += buffer.count(wire.EVENT, 0, end)
        if self.plan.sampled and client.latencies is not None:
            at_us = self._arrived_us
            client.latencies.extend([at_us - int(stamp) for stamp in wire.STAMP.findall(buffer, 0, end)])
        if self.frame is not None:
            self._answers(buffer, end)

    def _answers(self, buffer: bytearray, end: int) -> None:
        acks = buffer.count(wire.ACK, 0, end)
        client = self.client
        if buffer.find(wire.ERROR, 0, end) >= 0:
            raise BenchError(f"a request was refused: {wire.first_error(buffer, end)}")
        client.counts.pages += buffer.count(wire.PAGE, 0, end)
        if not acks:
            return
        client.counts.acks += acks
        self.in_flight -= acks
        if self.sending:
            for _ in range(acks):
                self.send_next()

    def _pong(self, size: int) -> int:
        """Answer a protocol ping that leads the buffer and take it out; what is left."""
        buffer = self.client.buffer
        pong = wire.pong_for(buffer[:size])
        if pong is None:
            return size
        self.write(pong)
        length = 2 + buffer[1]
        buffer[: size - length] = buffer[length:size]
        return size - length

    def close(self) -> None:
        self.client.loop.drop(self.sock.fileno())
        self.sock.close()
