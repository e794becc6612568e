"""A client that sends without end is refused, then closed; what waits for it in the pod is bounded all the while."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, default_spec, eventually, running_cluster
from support.crew import Crew, crew
from support.rawsocket import RawSocket, seat
from websockets.exceptions import ConnectionClosed

from chatkernel.errors import RESUMABLE, Close
from chatkernel.protocol import Limits

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


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose limits a client passes on a busy machine as well."""
    spec = default_spec(limits={"sendsPerS": 5, "sendsBurst": 10})
    with running_cluster(tmp_path / "data", spec) as cluster:
        yield cluster


async def test_who_sends_pings_in_spite_of_refusals_is_closed(strict: Cluster) -> None:
    async with crew(strict) as some:
        (ann,) = await some.people("ann")
        socket = await some.socket(ann)
        async with asyncio.timeout(30):
            try:
                while socket.closed_with is None:
                    await socket.say("ping")
                    await asyncio.sleep(0)  # let the answers be read
            except ConnectionClosed:
                pass
        assert await socket.closed() == Close.RATE_LIMITED and Close.RATE_LIMITED in RESUMABLE
        errors = socket.of("error")
        assert {error["code"] for error in errors} == {"rate_limited"}
        assert all(error["retryable"] and error["retry_after_ms"] > 0 for error in errors)

        async def may_again() -> bool:  # a device's frames are counted over all its sockets
            answer = await (await some.socket(ann)).ask("ping")
            return bool(answer["type"] == "pong")

        assert await eventually(may_again, within_s=20, step_s=0.5)


@pytest.mark.parametrize("says_hello", [True, False])
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(bytes((0x89, 0x80, 0, 0, 0, 0)) * 40_000, id="pings"),
        pytest.param(bytes((0x8A, 0x80, 0, 0, 0, 0)) * 40_000, id="pongs"),
        pytest.param(
            bytes((0x01, 0x80, 0, 0, 0, 0)) + bytes((0x00, 0x80, 0, 0, 0, 0)) * 40_000, id="empty parts"
        ),
    ],
)
async def test_frames_that_are_no_whole_message_are_counted_too(
    some: Crew, frames: bytes, says_hello: bool
) -> None:
    ann, bob = await some.people("ann", "bob")
    taken = await seat(ann)
    beside = await some.socket(bob, taken["pod"])
    socket = await some.raw(taken["url"])
    if says_hello:
        assert (await socket.ask("hello", ticket=taken["ticket"], cursors={}))["type"] == "ack"
    socket.connection.transport.write(frames)
    assert await socket.closed(10) == Close.RATE_LIMITED
    assert [e["code"] for e in socket.of("error")] == ["rate_limited"]
    assert (await beside.ask("ping"))["type"] == "pong"


async def test_a_message_in_very_many_parts_is_taken(some: Crew) -> None:
    (ann,) = await some.people("ann")
    socket = await some.socket(ann)
    text = json.dumps({"type": "ping", "id": "parts"})
    await socket.connection.send([text[0], *[" "] * 1_000, *text[1:]])
    assert (await socket.answer("parts"))["type"] == "pong"


async def test_the_sockets_of_one_device_share_what_it_may_send(some: Crew) -> None:
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    taken = await seat(ann)
    sockets = [await some.socket(ann, taken["pod"]) for _ in range(3)]
    burst = int(some.cluster.spec["limits"]["sendsBurst"])
    number = burst - 100  # each socket's alone would be let through

    async def send_all(socket: RawSocket) -> None:
        for n in range(number):
            await socket.say("send", id=f"s{n}", channel_id=channel, client_msg_id="k", text="")

    await asyncio.gather(*map(send_all, sockets))
    for socket in sockets:
        await socket.answer(f"s{number - 1}", 20)
    codes = [e["code"] for socket in sockets for e in socket.of("error")]
    assert set(codes) == {"invalid_field", "rate_limited"}
    assert codes.count("invalid_field") >= burst


async def test_a_device_that_opens_too_many_sockets_loses_its_oldest(some: Crew) -> None:
    (ann,) = await some.people("ann")
    laptop = await ann.another_device()
    pod = (await some.cluster.ready())[0]
    beside = await some.socket(laptop, pod)
    sockets = [await some.socket(ann, pod) for _ in range(Limits().sockets_per_device_max + 2)]
    for gone in sockets[:2]:
        # Not to come back: or two programs with one log-in would chase each other away for ever.
        assert await gone.closed() == Close.REPLACED and Close.REPLACED not in RESUMABLE
    for socket in [*sockets[2:], beside]:
        assert (await socket.ask("ping"))["type"] == "pong"
