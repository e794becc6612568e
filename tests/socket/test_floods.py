"""A client that sends without end is refused, then closed; what waits for it in the pod is bounded all the while."""

from __future__ import annotations

import asyncio

import pytest
from support.crew import Crew
from support.rawsocket import RawSocket, seat
from websockets.exceptions import ConnectionClosed

from chatkernel.errors import RESUMABLE, Close

LONGEST_PING = bytes((0x89, 0x80 | 125)) + bytes(4 + 125)
"""A ping frame as a client sends it, masked with zeros."""

FLOOD_MAX_BYTES = 60_000_000
"""Far more than the buffers of the system between client and pod hold."""


async def flood(socket: RawSocket, frame: bytes) -> int:
    """Send a frame over and over until the connection is lost; how many bytes were written."""
    batch, sent_bytes = frame * 2_000, 0
    while sent_bytes < FLOOD_MAX_BYTES and socket.closed_with is None:
        socket.connection.transport.write(batch)
        sent_bytes += len(batch)
        try:
            await socket.connection.drain()
        except (ConnectionClosed, OSError):
            break
        await asyncio.sleep(0)
    return sent_bytes


@pytest.mark.parametrize("says_hello", [True, False])
async def test_who_pings_and_does_not_read_the_pongs_is_cut(some: Crew, says_hello: bool) -> None:
    ann, bob = await some.people("ann", "bob")
    taken = await seat(ann)
    beside = await some.socket(bob, taken["pod"])
    socket = await some.raw(taken["url"])
    if says_hello:
        assert (await socket.ask("hello", ticket=taken["ticket"], cursors={}))["type"] == "ack"
    socket.connection.transport.pause_reading()
    async with asyncio.timeout(30):
        assert await flood(socket, LONGEST_PING) < FLOOD_MAX_BYTES
    # 1006: no close frame could be delivered. A client comes back after that.
    assert await socket.closed() == 1006
    assert (await beside.ask("ping"))["type"] == "pong"


async def test_who_reads_the_pongs_may_ping_much(some: Crew) -> None:
    (ann,) = await some.people("ann")
    socket = await some.socket(ann)
    for turn in range(20):
        pongs = [await socket.connection.ping(f"{turn}-{n}".ljust(125)) for n in range(100)]
        async with asyncio.timeout(10):
            await asyncio.gather(*pongs)
    assert (await socket.ask("ping"))["type"] == "pong"


async def test_who_sends_pings_in_spite_of_refusals_is_closed(some: Crew) -> None:
    (ann,) = await some.people("ann")
    socket = await some.socket(ann)
    async with asyncio.timeout(30):
        try:
            while socket.closed_with is None:
                for _ in range(100):  # faster than this pod's limits by far, whatever else the machine does
                    await socket.say("ping")
                await asyncio.sleep(0)  # let the answers be read
        except ConnectionClosed:
            pass
    assert await socket.closed() == Close.RATE_LIMITED and Close.RATE_LIMITED in RESUMABLE
    errors = socket.of("error")
    assert {error["code"] for error in errors} == {"rate_limited"}
    assert all(error["retryable"] and error["retry_after_ms"] > 0 for error in errors)
    assert (await (await some.socket(ann)).ask("ping"))["type"] == "pong"
