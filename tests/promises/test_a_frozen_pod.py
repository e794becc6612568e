"""A pod frozen past its lease that wakes up closes its sockets and registers anew; nothing that it does in between
breaks a promise."""

from __future__ import annotations

import asyncio
import signal
import time

from support.cluster import Cluster, eventually
from support.crew import crew
from support.rawsocket import seat

from chatkernel.errors import Close
from chatkernel.registry import Registry

FROZEN_S = 7.0
"""Longer than a lease and a renewal; shorter than the operator takes to give a pod up."""


async def test_it_closes_its_sockets_and_registers_anew(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        ann, bob, eve = await some.people("ann", "bob", "eve")
        channel = await some.group(ann, bob, eve)
        pod, other = await cluster.ready()
        phones = [await some.phone(person, where) for person in (ann, bob) for where in (pod, other)]
        eves_socket = await some.socket(eve, pod)
        unused = await seat(eve, pod)
        before = await cluster.statz(pod)

        async def all_in() -> bool:
            return all(phone.client.pod for phone in phones)

        await eventually(all_in)
        assert {phone.client.pod for phone in phones} == {pod, other}
        await cluster.signal(pod, signal.SIGSTOP)
        try:
            frozen_at = time.monotonic()
            # What it will find in its sockets when it wakes: words of somebody who was removed meanwhile.
            for n in range(5):
                await eves_socket.say("send", channel_id=channel, client_msg_id=f"late{n}", text="late")
            sends = [asyncio.create_task(some.send(phone, channel)) for phone in phones for _ in range(5)]
            await ann.ok("DELETE", f"/v1/channels/{channel}/members/{eve.id}")
            await asyncio.gather(*sends)  # those on the frozen pod have found another by themselves
            assert time.monotonic() - frozen_at < FROZEN_S

            async def is_out() -> bool:
                answer = await ann.ok("POST", "/v1/seats", {})
                return pod not in [s["pod"] for s in (answer["best"], *answer["alternatives"])]

            await eventually(is_out, FROZEN_S)
            await asyncio.sleep(max(0.0, frozen_at + FROZEN_S - time.monotonic()))
        finally:
            await cluster.signal(pod, signal.SIGCONT)
        assert await eves_socket.closed(3) == Close.LEASE_LOST

        async def is_back() -> bool:
            return (await seat(ann, None, [other]))["pod"] == pod

        await eventually(lambda: ready_on(is_back), 5)
        after = await cluster.statz(pod)
        assert after["incarnation"] != before["incarnation"]
        old = await some.raw(unused["url"])
        assert (await old.ask("hello", ticket=unused["ticket"]))["code"] == "ticket_wrong_pod"
        # It serves again: what is said elsewhere is heard there.
        hearer = await some.socket(bob, pod)
        said = await some.send(phones[0], channel)
        await hearer.event(channel, said.client_msg_id)
        assert await some.settled(channel)
        verdict = await some.judge([channel])
        assert verdict.kept, verdict
        log = await some.log_of(channel)
        left_at = next(event.seq for event in log if event.kind == "leave")
        assert [e for e in log if e.sender_id == eve.id and e.seq > left_at] == []
        assert [e for e in eves_socket.events(channel) if e["seq"] > left_at] == []


async def test_a_run_that_was_declared_over_by_mistake_comes_back_as_another(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        (ann,) = await some.people("ann")
        channel = await some.group(ann)
        pod, other = await cluster.ready()
        phones = [await some.phone(ann, pod), await some.phone(ann, other)]
        before = (await cluster.statz(pod))["incarnation"]
        async with cluster.redis() as (redis, keys):
            assert await Registry(redis, keys).remove(pod)

        async def is_back() -> bool:
            return (await seat(ann, None, [other]))["pod"] == pod

        await eventually(lambda: ready_on(is_back), 5)
        assert (await cluster.statz(pod))["incarnation"] != before
        await some.send(phones[1], channel)
        assert await some.settled(channel)
        assert [phone.client.reconnects for phone in phones] == [1, 0]


async def ready_on(look: object) -> bool:
    """A seat is refused (503) or on another pod until the pod has registered."""
    try:
        return bool(await look())  # type: ignore[operator]
    except AssertionError:
        return False
