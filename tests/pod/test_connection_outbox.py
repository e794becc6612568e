"""One client's outbox: one write a turn, in order, bounded, and silent after the close. On real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from chatkernel.errors import Close
from chatpod.connection import Connection, Flusher, binary_frame, text_frame

LIMIT = 256 * 1024


class Wire:
    """A connection on one end of a socket pair; the test holds the other. Notes what is asked of the protocol."""

    def __init__(self, transport: asyncio.Transport, far: socket.socket) -> None:
        self.transport, self.far = transport, far
        self.closes: list[tuple[int, str]] = []
        self.slow: list[Connection] = []

    def close_with(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    def connection(self, flusher: Flusher) -> Connection:
        return Connection(self, flusher, False, self.slow.append)  # type: ignore[arg-type]

    async def read(self, size: int) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(5):
            while len(data) < size:
                data += await loop.sock_recv(self.far, size - len(data))
        return data


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    yield Wire(transport, far)
    transport.abort()
    far.close()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_frames_are_what_the_standard_says(size: int) -> None:
    from websockets.frames import Frame, Opcode

    payload = b"x" * size
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert binary_frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


async def test_what_is_written_in_a_turn_goes_out_in_order_at_its_end(wire: Wire) -> None:
    flusher = Flusher(asyncio.get_running_loop(), LIMIT)
    connection = wire.connection(flusher)
    frames = [text_frame(b"%d" % n) for n in range(100)]
    for frame in frames:
        connection.write(frame)
    with pytest.raises(BlockingIOError):
        wire.far.recv(1)
    whole = b"".join(frames)
    assert await wire.read(len(whole)) == whole


async def test_a_large_page_alone_is_no_slowness_and_a_backlog_is(wire: Wire) -> None:
    flusher = Flusher(asyncio.get_running_loop(), LIMIT)
    connection = wire.connection(flusher)
    page = text_frame(b"x" * (8 * LIMIT))
    connection.write(page)
    await asyncio.sleep(0)
    assert connection.unsent_bytes() > LIMIT and wire.slow == []
    assert await wire.read(len(page)) == page
    connection.write(page)
    await asyncio.sleep(0)
    backlog = connection.unsent_bytes()
    for _ in range(3):
        connection.write(text_frame(b"x" * LIMIT))
        await asyncio.sleep(0.01)
    assert wire.slow[0] is connection
    assert connection.unsent_bytes() == backlog  # nothing was added to it


async def test_nothing_is_written_after_the_close_and_everything_before_it(wire: Wire) -> None:
    flusher = Flusher(asyncio.get_running_loop(), LIMIT)
    connection = wire.connection(flusher)
    connection.write(text_frame(b"before"))
    connection.close(Close.MIGRATED, "moved")
    connection.write(text_frame(b"after"))
    connection.close(Close.SLOW_CONSUMER, "again")
    await asyncio.sleep(0.01)
    assert wire.closes == [(Close.MIGRATED, "moved")]
    assert await wire.read(len(text_frame(b"before"))) == text_frame(b"before")
    with pytest.raises(BlockingIOError):
        wire.far.recv(1)


async def test_a_connection_that_is_gone_takes_no_bytes(wire: Wire) -> None:
    flusher = Flusher(asyncio.get_running_loop(), LIMIT)
    connection = wire.connection(flusher)
    wire.transport.abort()
    for _ in range(3):
        connection.write(text_frame(b"x"))
        await asyncio.sleep(0)
    assert wire.slow == [] and wire.closes == []
