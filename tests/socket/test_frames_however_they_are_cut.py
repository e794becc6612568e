"""Messages come in whole and in order, however client and network cut them: in pieces, together, or in fragments."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from typing import Any

import pytest
from support.crew import Crew
from support.rawsocket import RawSocket, seat

TEXT, CONTINUATION, PING, BINARY = 1, 0, 9, 2


def frame(opcode: int, payload: bytes, key: bytes, *, final: bool = True) -> bytes:
    """A client's frame (RFC 6455 section 5.2), masked with `key`."""
    head = bytes([(0x80 if final else 0) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


def stream(count: int, source: random.Random) -> bytes:
    """Chat pings p0, p1, … of many lengths; some in fragments with a control frame between, some alone."""
    out = b""
    for n in range(count):
        padding = "x" * source.choice([0, 60, 61, 62, 200, 3_000])
        payload = json.dumps({"type": "ping", "id": f"p{n}", "unknown": padding}).encode()
        key = source.randbytes(4)
        if source.random() < 0.3:
            cut = source.randrange(len(payload) + 1)
            out += frame(TEXT, payload[:cut], key, final=False)
            out += frame(PING, b"between", key)
            out += frame(CONTINUATION, payload[cut:], key)
        else:
            out += frame(TEXT, payload, key)
    return out


async def opened(crew: Crew) -> RawSocket:
    (ann,) = await crew.people("ann")
    taken = await seat(ann)
    socket = await crew.raw(taken["url"])
    assert (await socket.ask("hello", ticket=taken["ticket"], cursors={}))["type"] == "ack"
    return socket


async def pongs(socket: RawSocket, count: int) -> list[Any]:
    await socket.until(lambda found: found["type"] == "pong" and found["id"] == f"p{count - 1}", 10)
    return [found["id"] for found in socket.of("pong")]


@pytest.mark.parametrize("pieces", [1, 7, 60, 400])
async def test_messages_arrive_in_order_however_they_are_cut(some: Crew, pieces: int) -> None:
    source = random.Random(pieces)
    socket = await opened(some)
    data = stream(60, source)
    cuts = sorted(source.sample(range(1, len(data)), pieces - 1))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        socket.connection.transport.write(data[start:end])
        await asyncio.sleep(0)
    assert await pongs(socket, 60) == [f"p{n}" for n in range(60)]


async def test_what_comes_with_the_hello_in_one_packet_is_not_lost(some: Crew) -> None:
    (ann,) = await some.people("ann")
    taken = await seat(ann)
    socket = await some.raw(taken["url"])
    hello = json.dumps({"type": "hello", "id": "h", "ticket": taken["ticket"], "cursors": {}}).encode()
    data = frame(TEXT, hello, b"abcd") + b"".join(
        frame(TEXT, json.dumps({"type": "ping", "id": f"p{n}"}).encode(), b"efgh") for n in range(3)
    )
    socket.connection.transport.write(data)
    assert await pongs(socket, 3) == ["p0", "p1", "p2"]
    assert (await socket.answer("h"))["type"] == "ack"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (frame(TEXT, b"{}", b"abcd")[:1] + b"\x02{}", 1002),  # not masked
        (b"\xc1" + frame(TEXT, b"{}", b"abcd")[1:], 1002),  # a reserved bit
        (frame(CONTINUATION, b"{}", b"abcd"), 1002),  # nothing to continue
        (frame(TEXT, b'{"type":', b"abcd", final=False) + frame(TEXT, b"{}", b"abcd"), 1002),
        (frame(3, b"{}", b"abcd"), 1002),  # no such opcode
        (frame(BINARY, b"{}", b"abcd"), 1007),  # binary in a JSON session
    ],
)
async def test_frames_against_the_rules_end_the_connection(some: Crew, broken: bytes, code: int) -> None:
    socket = await opened(some)
    good = frame(TEXT, b'{"type":"ping","id":"p0"}', b"abcd")
    socket.connection.transport.write(good + broken)
    assert await pongs(socket, 1) == ["p0"]
    assert await socket.closed() == code
    assert [error["code"] for error in socket.of("error")] == ["malformed"]
