"""Promise 6: losing a pod, Redis or a connection costs a reconnect, never a message; Redis may be emptied at any
time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest
from breaks import Breaks
from support.cluster import HEARTBEAT_S, Cluster, eventually
from support.crew import Crew, Phone, crew

from chatclient.drill.checker import Verdict

Fault = Callable[[Crew], Awaitable[None]]


async def kill_a_pod_while_redis_is_emptied(some: Crew) -> None:
    pod = some.phones[0].client.pod
    assert pod is not None
    await asyncio.gather(
        some.cluster.order("redis", action="flush"), some.cluster.signal(pod, signal.SIGKILL)
    )


async def kill_redis(some: Crew) -> None:
    await some.cluster.order("redis", action="kill")


async def empty_redis(some: Crew) -> None:
    await some.cluster.order("redis", action="flush")


async def cut_every_connection(some: Crew) -> None:
    for phone in some.phones:
        link = phone.client.link
        assert link is not None
        link.abort()


async def talk_through(some: Crew, *faults: Fault) -> tuple[Verdict, bool]:
    """People talk without a pause while the faults happen: the verdict, and whether all caught up by themselves."""
    people = await some.people("ann", "bob", "cleo")
    channels = [await some.group(*people), await some.group(people[0], people[1])]
    pods = await some.cluster.ready()
    phones = [await some.phone(person, pods[n % 2]) for n, person in enumerate((*people, *people))]
    talking = True

    async def talk(phone: Phone) -> None:
        while talking:
            await asyncio.gather(
                *(some.send(phone, c) for c in channels if c in phone.client.cursors), asyncio.sleep(0.02)
            )

    talkers = [asyncio.create_task(talk(phone)) for phone in phones]
    for fault in faults:
        await asyncio.sleep(0.5)
        await fault(some)
        await asyncio.sleep(0.5)
    talking = False
    await asyncio.wait_for(asyncio.gather(*talkers), 30)
    settled = [await some.settled(channel) for channel in channels]
    return await some.judge(channels), all(settled)


def assert_nothing_is_lost(verdict: Verdict, settled: bool) -> None:
    assert verdict.sent == verdict.acked > 50, verdict
    assert (verdict.lost, verdict.behind_cursor) == (0, 0), verdict.details
    assert verdict.kept and settled, verdict


async def test_a_pod_killed_while_redis_is_emptied(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        verdict, settled = await talk_through(some, kill_a_pod_while_redis_is_emptied)
        assert_nothing_is_lost(verdict, settled)
        assert any(phone.client.reconnects for phone in some.phones)


async def test_redis_emptied_redis_killed_and_connections_cut(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        verdict, settled = await talk_through(some, empty_redis, kill_redis, cut_every_connection)
        assert_nothing_is_lost(verdict, settled)
        # Redis is nobody's connection: only the cut cost one.
        assert {phone.client.reconnects for phone in some.phones} == {1}


async def test_a_channel_that_begins_right_after_redis_was_emptied(cluster: Cluster) -> None:
    async with crew(cluster) as some, asyncio.timeout(15):
        ann, bob = await some.people("ann", "bob")
        one, other = await some.cluster.ready()
        speaker, hearer = await some.phone(ann, one), await some.phone(bob, other)
        await empty_redis(some)
        state = await ann.ok("POST", "/v1/channels", {"kind": "direct", "user_id": bob.id})
        channel = str(state["channel_id"])
        for _ in range(3):
            await some.send(speaker, channel)

        async def all_had() -> bool:
            return hearer.had(channel) == speaker.had(channel) == [1, 2, 3, 4]

        await eventually(all_had, 3 * HEARTBEAT_S)


async def test_a_pod_that_takes_who_comes_back_for_up_to_date_is_caught(
    breakable: Cluster, breaks: Breaks
) -> None:
    async with crew(breakable) as some:
        with breaks.on("resumes_from_the_head"):
            found = await talk_through(some, cut_every_connection)
        assert found[0].lost > 0
        with pytest.raises(AssertionError):
            assert_nothing_is_lost(*found)
