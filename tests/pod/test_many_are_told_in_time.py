"""A drain tells everyone to move before its deadline, however many they are and however slow the rate."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.live import live
from support.one_pod import OnePod, Wire

from chatkernel.ids import now_ms
from chatkernel.protocol import Migrate
from chatkernel.settings import DrainSettings
from chatpod.drain import Drainer

CLIENTS = 300


def crowd(pod: OnePod) -> list[Wire]:
    wires = []
    for number in range(CLIENTS):
        client, wire = pod.client(f"u_{number}")
        client.opening = False
        wires.append(wire)
    return wires


def told(wires: list[Wire]) -> int:
    return sum(any(isinstance(frame, Migrate) for frame in wire.frames) for wire in wires)


@pytest.mark.parametrize("rate_per_s", [0.5, 100.0, 100_000.0])
async def test_all_are_told_whatever_rate_is_set(pod: OnePod, rate_per_s: float) -> None:
    wires = crowd(pod)
    drainer = Drainer(pod.hub, live(drain=DrainSettings(2.0, rate_per_s)), now_ms)
    drainer.drain()
    while told(wires) < CLIENTS:
        assert not any(wire.closed for wire in wires)
        await asyncio.sleep(0.02)
    assert not any(wire.closed for wire in wires)
    await asyncio.wait_for(drainer.finished(), 3)
    assert all(wire.closed for wire in wires)


async def test_also_by_a_pod_that_has_much_else_to_do(pod: OnePod) -> None:
    async def busy() -> None:
        while True:
            time.sleep(0.12)
            await asyncio.sleep(0)

    wires = crowd(pod)
    other_work = asyncio.create_task(busy())
    drainer = Drainer(pod.hub, live(drain=DrainSettings(1.0, 1.0)), now_ms)
    drainer.drain()
    await asyncio.wait_for(drainer.finished(), 3)
    other_work.cancel()
    assert told(wires) == CLIENTS
