"""Promise 5: a missed live delivery is found and healed: at once when a later event arrives, and within one
heartbeat otherwise."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from breaks import Breaks
from support.cluster import HEARTBEAT_S, Cluster, eventually
from support.crew import Crew, Phone, crew

from chatkernel.redis_client import execute

MARGIN_S = 0.6
"""A machine that does other things at the same time."""


@asynccontextmanager
async def deaf(cluster: Cluster, channel: str, pod: str) -> AsyncIterator[None]:
    """What is said in the channel meanwhile does not reach this pod: its route is gone from Redis."""
    async with cluster.redis() as (redis, keys):
        route = keys.route(f"c:{channel}")
        assert await execute(redis, [("SREM", route, pod)]) == [1]
        try:
            yield
        finally:
            await execute(redis, [("SADD", route, pod)])


async def pair(some: Crew) -> tuple[Phone, Phone, str]:
    """Two people with a phone on two pods."""
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    speaker, hearer = await some.phone(ann, one), await some.phone(bob, other)
    return speaker, hearer, channel


async def seconds_until_heard(hearer: Phone, channel: str, seq: int, within_s: float) -> float:
    started = time.monotonic()

    async def heard() -> bool:
        return hearer.client.cursors.get(channel, 0) >= seq

    try:
        await eventually(heard, within_s)
    except AssertionError:
        return float("inf")
    return time.monotonic() - started


async def lose_one_and_wait(some: Crew) -> float:
    """How long the loss of a last message goes unnoticed."""
    speaker, hearer, channel = await pair(some)
    pod = hearer.client.pod
    assert pod is not None
    async with deaf(some.cluster, channel, pod):
        lost = await some.send(speaker, channel)
        return await seconds_until_heard(hearer, channel, lost.seq, 3 * HEARTBEAT_S)


def assert_within_a_heartbeat(took_s: float) -> None:
    assert took_s <= HEARTBEAT_S + MARGIN_S


async def test_a_lost_last_message_is_there_within_a_heartbeat(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_within_a_heartbeat(await lose_one_and_wait(some))


async def test_a_lost_message_is_there_at_once_when_the_next_one_comes(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        speaker, hearer, channel = await pair(some)
        pod = hearer.client.pod
        assert pod is not None
        for _ in range(3):
            async with deaf(cluster, channel, pod):
                await some.send(speaker, channel)
            later = await some.send(speaker, channel)
            assert await seconds_until_heard(hearer, channel, later.seq, HEARTBEAT_S) < HEARTBEAT_S / 2
        verdict = await some.judge([channel])
        assert verdict.kept, verdict.details


async def test_a_pod_that_never_looks_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("never_heals"):
            took_s = await lose_one_and_wait(some)
        with pytest.raises(AssertionError):
            assert_within_a_heartbeat(took_s)
