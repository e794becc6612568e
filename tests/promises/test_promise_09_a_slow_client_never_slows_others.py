"""Promise 9: a slow client never slows others: its outbox is bounded, then it is closed with a resumable code."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest
from breaks import Breaks
from support.cluster import Cluster
from support.crew import Crew, crew
from support.rawsocket import RawSocket

from chatkernel.errors import RESUMABLE, Close

SLOW_CLIENTS = 3
MESSAGES, TEXT = 600, "x" * 15_000
"""Nine megabytes for each: more than kernel buffers and outbox together."""


@dataclass
class Outcome:
    closed: list[int]
    slowest_s: float
    """Send → delivered to the client that reads."""
    delivered: int


async def some_do_not_read(some: Crew) -> Outcome:
    ann, bob, *slow = await some.people("ann", "bob", *["slow"] * SLOW_CLIENTS)
    channel = await some.group(ann, bob, *slow)
    (pod, *_) = await some.cluster.ready()
    speaker, reader = await some.socket(ann, pod), await some.socket(bob, pod)
    sleepers = [await some.socket(person, pod) for person in slow]
    for sleeper in sleepers:
        sleeper.connection.transport.pause_reading()
    sent_at: dict[str, float] = {}
    for start in range(0, MESSAGES, 20):
        keys = [f"m{n}" for n in range(start, start + 20)]
        for key in keys:
            sent_at[key] = time.monotonic()
        await asyncio.gather(*(speaker.send(channel, key, TEXT) for key in keys))
    await reader.event(channel, f"m{MESSAGES - 1}", within_s=10)
    took = [
        event["_at"] - sent_at[event["client_msg_id"]]
        for event in reader.of("event", channel_id=channel)
        if event["client_msg_id"] in sent_at
    ]
    for sleeper in sleepers:
        sleeper.connection.transport.resume_reading()
    return Outcome([await close_of(s) for s in sleepers], max(took), len(took))


async def close_of(socket: RawSocket) -> int:
    try:
        return await socket.closed(within_s=1.5)
    except TimeoutError:
        return 0


def assert_only_the_slow_ones_suffer(found: Outcome) -> None:
    assert found.delivered == MESSAGES and found.slowest_s < 2.0
    # 1006: the connection was cut because the close frame could not be delivered either.
    assert set(found.closed) <= {Close.SLOW_CONSUMER, 1006}, found.closed
    assert Close.SLOW_CONSUMER in RESUMABLE


async def test_who_does_not_read_is_closed_and_nobody_else_notices(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_only_the_slow_ones_suffer(await some_do_not_read(some))


async def test_a_slow_client_is_told_so_and_can_resume(cluster: Cluster) -> None:
    """One that reads again in time gets the reason, and then everything that it missed."""
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        (pod, *_) = await some.cluster.ready()
        speaker, sleeper = await some.socket(ann, pod), await some.socket(bob, pod)
        sleeper.connection.transport.pause_reading()
        before = (await cluster.statz(pod))["slow_closed"]
        sent = 0
        while (await cluster.statz(pod))["slow_closed"] == before:
            assert sent < 2000
            await asyncio.gather(*(speaker.send(channel, f"m{sent + n}", TEXT) for n in range(20)))
            sent += 20
        sleeper.connection.transport.resume_reading()
        assert await sleeper.closed() == Close.SLOW_CONSUMER
        had = [event["seq"] for event in sleeper.events(channel)]
        assert had == sorted(set(had))
        back = await some.socket(bob, pod, cursors={channel: had[-1] if had else 1})
        missed = [event["seq"] for event in back.events(channel)]
        assert had + missed == list(range(2, sent + 2))


async def test_a_pod_that_keeps_slow_clients_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("keeps_slow_clients"):
            found = await some_do_not_read(some)
        assert found.delivered == MESSAGES and Close.SLOW_CONSUMER not in found.closed
        with pytest.raises(AssertionError):
            assert_only_the_slow_ones_suffer(found)
