"""Promise 10: scale-down, rollout and eviction move each client once, to a pod that stays, before its old socket
closes, at a paced rate."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from breaks import Breaks
from support.cluster import Cluster, eventually
from support.crew import Crew, crew

from chatclient.drill.checker import Verdict

PHONES = 12
CROWD = 200
"""Clients of one pod, for which the pace takes two seconds."""
Change = Callable[[Crew], Awaitable[int]]


@dataclass
class Outcome:
    verdict: Verdict
    moves: list[int]
    reconnects: list[int]
    on: set[str | None]
    stay: set[str]
    had_to_move: int


async def move_while_all_talk(some: Crew, change: Change) -> Outcome:
    """Everybody sends all the time while pods go."""
    people = await some.people("ann", "bob", "cleo")
    channel = await some.group(*people)
    pods = await some.cluster.ready()
    phones = [await some.phone(people[n % 3], pods[n % 2]) for n in range(PHONES)]
    talking = True

    async def talk(n: int) -> None:
        while talking:
            await asyncio.gather(some.send(phones[n], channel), asyncio.sleep(0.05))

    talkers = [asyncio.create_task(talk(n)) for n in range(PHONES)]
    had_to_move = await change(some)
    talking = False
    await asyncio.gather(*talkers)
    assert await some.settled(channel)
    stay = set(await some.cluster.ready())
    return Outcome(
        await some.judge([channel]),
        [phone.client.moves for phone in phones],
        [phone.client.reconnects for phone in phones],
        {phone.client.pod for phone in phones},
        stay,
        had_to_move,
    )


def count_on(some: Crew, *pods: str) -> int:
    return sum(phone.client.pod in pods for phone in some.phones)


async def scale_down(some: Crew) -> int:
    before = {phone: phone.client.pod for phone in some.phones}
    await some.cluster.order("scale", replicas=1)
    (left,) = await some.cluster.whole(1)
    return sum(pod != left for pod in before.values())


async def evict(some: Crew) -> int:
    """SIGTERM from somebody else than the operator, as a node that is emptied sends it."""
    pod = some.phones[0].client.pod
    assert pod is not None
    leave = count_on(some, pod)
    await some.cluster.signal(pod, signal.SIGTERM)
    await gone(some.cluster, pod)
    await some.cluster.whole(2)
    return leave


async def gone(cluster: Cluster, *names: str) -> None:
    async def look() -> bool:
        return not set(names) & set(await cluster.pods())

    await eventually(look, 40)


async def roll_out(some: Crew) -> int:
    some.cluster.spec["chatPods"]["env"] = [{"name": "ROLLED", "value": str(time.time())}]
    old = await some.cluster.ready()
    some.cluster.apply()
    await gone(some.cluster, *old)
    await some.cluster.whole(2)
    return PHONES


def assert_everybody_moved_once(found: Outcome) -> None:
    assert found.verdict.kept and found.verdict.refused == 0, found.verdict
    assert found.reconnects == [0] * PHONES, "somebody lost a connection before having another"
    assert max(found.moves) == 1
    assert sum(found.moves) == found.had_to_move > 0
    assert found.on <= found.stay


async def test_scale_down_moves_those_on_the_pod_that_goes(cluster: Cluster) -> None:
    try:
        async with crew(cluster) as some:
            assert_everybody_moved_once(await move_while_all_talk(some, scale_down))
    finally:
        await cluster.order("scale", replicas=2)


async def test_eviction_moves_those_on_the_evicted_pod(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_everybody_moved_once(await move_while_all_talk(some, evict))


@pytest.mark.slow
async def test_a_rollout_moves_everybody_once(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_everybody_moved_once(await move_while_all_talk(some, roll_out))


async def test_moves_are_paced_and_made_before_the_old_socket_closes(cluster: Cluster) -> None:
    """By the bare socket: the word to move, the old socket good for sends until the end, then its close."""
    async with crew(cluster) as some:
        (ann,) = await some.people("ann")
        channel = await some.group(ann)
        pod = (await cluster.ready())[0]
        socket = await some.socket(ann, pod)
        await cluster.signal(pod, signal.SIGTERM)
        migrate = await socket.until(lambda f: f["type"] == "migrate")
        assert migrate["reason"] == "draining" and migrate["deadline"] > time.time() * 1000
        assert (await socket.send(channel, "still here"))["type"] == "ack"
        new = await some.socket(ann)
        assert new.pod != pod
        assert (await socket.send(channel, "and here"))["type"] == "ack"
        await new.event(channel, "and here")
        await socket.close()
        await gone(cluster, pod)


async def test_many_clients_are_told_to_move_at_the_rate_that_is_set(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        pod = (await cluster.ready())[0]
        rate_per_s = float(cluster.spec["drain"]["ratePerSecond"])
        sockets = await some.crowd(CROWD, pod)
        await cluster.order("drain", pod=pod)
        told = await asyncio.gather(
            *(s.until(lambda f: f["type"] == "migrate", CROWD / rate_per_s + 10) for s in sockets)
        )
        span_s = max(f["_at"] for f in told) - min(f["_at"] for f in told)
        # It may take longer on a busy machine, but never much less.
        assert span_s >= 0.75 * CROWD / rate_per_s
        assert {len(s.of("migrate")) for s in sockets} == {1}
        assert all(s.closed_with is None for s in sockets), "closed before its deadline"
        await asyncio.gather(*(s.close() for s in sockets))
        await gone(cluster, pod)


async def test_a_pod_that_closes_without_asking_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        try:
            with breaks.on("closes_without_migrate"):
                found = await move_while_all_talk(some, scale_down)
        finally:
            await breakable.order("scale", replicas=2)
        with pytest.raises(AssertionError, match="lost a connection"):
            assert_everybody_moved_once(found)
