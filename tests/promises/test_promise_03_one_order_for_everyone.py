"""Promise 3: in a channel all devices see the same order, whatever pods and retries did."""

from __future__ import annotations

import asyncio

import pytest
from breaks import Breaks
from support.cluster import Cluster
from support.crew import Crew, crew

from chatclient.drill.checker import Verdict

SENDS = 40


async def everybody_at_once(some: Crew) -> Verdict:
    """Four people on two pods, one more device each on the other pod, all sending to one channel at once."""
    people = await some.people("ann", "bob", "cleo", "dan")
    channel = await some.group(*people)
    pods = await some.cluster.ready()
    phones = [
        await some.phone(person, pods[(n + m) % 2], msgpack=n == 1)
        for n, person in enumerate(people)
        for m in range(2)
    ]

    async def talk(phone: int) -> None:
        await asyncio.gather(*(some.send(phones[phone], channel) for _ in range(SENDS)))

    await asyncio.gather(*(talk(phone) for phone in range(len(phones))))
    await some.settled(channel)
    return await some.judge([channel])


def assert_one_order(verdict: Verdict) -> None:
    assert (verdict.reordered, verdict.duplicated) == (0, 0), verdict.details
    assert verdict.kept, verdict


async def test_all_devices_on_all_pods_see_the_order_of_the_log(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_one_order(await everybody_at_once(some))


async def test_a_pod_that_gives_out_its_own_numbers_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("tells_before_the_log_decides"):
            verdict = await everybody_at_once(some)
        assert verdict.acked == verdict.sent and verdict.reordered > 0
        with pytest.raises(AssertionError):
            assert_one_order(verdict)
