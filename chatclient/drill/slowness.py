"""A device that reads nothing for a while, and what its pod kept for it meanwhile."""

from __future__ import annotations

import socket
from pathlib import Path

from chatclient.connection import Socket
from chatclient.drill.crowd import Device
from chatclient.link import Link
from chatkernel.errors import Close
from chatkernel.protocol import History, Ping

SLOW_REQUESTS = 200
"""Pages of history that a device asks for and does not read: they fill its outbox on the pod."""
SLOW_MARK = "slow-mark"
"""The ping whose pong ends what was surely written while nothing was read."""

SEND_BUFFER_MIN_BYTES = 4 * 1024 * 1024
"""What a pod's kernel may hold of a connection, unless this machine's is set to more."""


class SlowReader:
    """A device's connection that is not read, and how much was kept for it meanwhile."""

    def __init__(self, device: Device, link: Link, reader: Socket, channel_id: str) -> None:
        self.device, self.link = device, link
        self.kept_bytes = 0
        """Read up to the mark: written by the pod while nothing was read."""
        self.marked = False
        self._reader, self._channel_id = reader, channel_id
        self._asked = 0
        self._on_data = reader._on_data
        reader._on_data = self._count
        transport = reader._transport
        kernel: socket.socket | None = transport.get_extra_info("socket") if transport else None
        self._receive_buffer_bytes = kernel.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) if kernel else 0

    def _count(self, data: bytes) -> None:
        if not self.marked:
            self.marked = len(data) < 1000 and SLOW_MARK.encode() in data
            self.kept_bytes += len(data)
        self._on_data(data)

    def stop_reading(self) -> None:
        self.link.patient = True  # it would let itself go for the pong that it does not read
        self._reader.pause_reading()

    def ask_for_much(self) -> None:
        for _ in range(SLOW_REQUESTS):
            self._asked += 1
            self.link.send(History(f"slow{self._asked}", self._channel_id, limit=200))

    def send_mark(self) -> None:
        self.link.send(Ping(SLOW_MARK))

    def read_again(self) -> None:
        self._reader.resume_reading()

    @property
    def told(self) -> bool:
        """Nothing more can be learnt from it."""
        return self.marked or self.link.close_code is not None

    @property
    def let_go(self) -> bool:
        # 1006: the pod cut the connection because not even its goodbye was read.
        return self.link.close_code in (Close.SLOW_CONSUMER, 1006)

    @property
    def was_kept(self) -> bool:
        """Still connected, though more was written for it than kernels and outbox may hold."""
        outbox_bytes = self.device.client.limits.outbox_max_bytes
        # Twice the outbox: a pod looks at what earlier turns left unsent, so that a large write may come on top.
        may_hold = 2 * outbox_bytes + self._receive_buffer_bytes + _send_buffer_max_bytes()
        return self.link.is_open and self.kept_bytes > may_hold


def _send_buffer_max_bytes() -> int:
    try:
        told = Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()
        return max(SEND_BUFFER_MIN_BYTES, int(told[-1]))
    except (OSError, ValueError, IndexError):
        return SEND_BUFFER_MIN_BYTES
