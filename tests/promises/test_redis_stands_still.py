"""Redis does not answer: connections stay, sends are stored and acked, and delivery catches up within a heartbeat
after it is back."""

from __future__ import annotations

import asyncio
import time

from support.cluster import HEARTBEAT_S, Cluster, eventually
from support.crew import crew

MARGIN_S = 1.0


async def test_sends_are_acked_and_delivered_when_it_is_back(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        one, other = await cluster.ready()
        phones = [await some.phone(ann, one), await some.phone(bob, one), await some.phone(bob, other)]
        await cluster.order("redis", action="stop")
        try:
            started = time.monotonic()
            while time.monotonic() - started < 1.0:
                await asyncio.gather(*(some.send(phone, channel) for phone in phones))
            assert all(sent.acked_at is not None and sent.acked_at - sent.sent_at < 0.5 for sent in some.sent)

            async def is_said() -> bool:
                return any([(await cluster.statz(pod))["degraded"] for pod in (one, other)])

            await eventually(is_said, 5)
            answer = await ann.ok("POST", "/v1/seats", {})
            assert answer["best"]["pod"]  # from the last look
        finally:
            await cluster.order("redis", action="cont")
        back_at = time.monotonic()
        assert await some.settled(channel, HEARTBEAT_S + MARGIN_S)
        assert time.monotonic() - back_at < HEARTBEAT_S + MARGIN_S
        verdict = await some.judge([channel])
        assert verdict.kept and verdict.refused == 0, verdict
        assert [phone.client.reconnects for phone in phones] == [0, 0, 0]

        async def is_well() -> bool:
            return not await is_said()

        await eventually(is_well, 5)
        live = await some.send(phones[0], channel)

        async def heard() -> bool:
            return all(phone.client.cursors[channel] >= live.seq for phone in phones)

        await eventually(heard, 0.5)


async def test_somebody_may_log_in_while_it_stands_still(cluster: Cluster) -> None:
    """The new socket is in no route yet: what is said elsewhere comes to it by looking at the store."""
    async with crew(cluster) as some:
        ann, bob = await some.people("ann", "bob")
        channel = await some.group(ann, bob)
        speaker = await some.phone(ann, (await cluster.ready())[0])
        await cluster.order("redis", action="stop")
        try:
            hearer = await some.phone(bob)
            said = await some.send(speaker, channel)

            async def heard() -> bool:
                return hearer.client.cursors.get(channel, 0) >= said.seq

            await eventually(heard, 2 * HEARTBEAT_S + MARGIN_S)
        finally:
            await cluster.order("redis", action="cont")
        assert await some.settled(channel)
        verdict = await some.judge([channel])
        assert verdict.kept, verdict.details


async def test_a_pod_whose_people_went_meanwhile_is_well_when_it_is_back(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        (ann,) = await some.people("ann")
        pod = (await cluster.ready())[0]
        socket = await some.socket(ann, pod)

        async def degraded() -> list[str]:
            return list((await cluster.statz(pod))["degraded"])

        async def lease_is_missed() -> bool:
            return "presence" in await degraded()

        async def is_well() -> bool:
            return await degraded() == []

        await cluster.order("redis", action="stop")
        try:
            await eventually(lease_is_missed, 10)
            await socket.close()
        finally:
            await cluster.order("redis", action="cont")
        await eventually(is_well, 10)
