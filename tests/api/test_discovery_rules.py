"""The two memories of an API pod: seats given out and not seen yet, and devices known to be live."""

import asyncio

import msgspec

from apipod.discovery import RECENT_S, Recent
from apipod.liveness import Liveness
from chatkernel.registry import PodEntry, PodState


class Clock:
    s = 0.0

    def __call__(self):
        return self.s


def entry(name, connections):
    return PodEntry(name, "run", "ws://x", "local", "r1", PodState.READY, connections, 100, 0)


def test_a_seat_counts_until_its_connection_shows():
    recent = Recent(Clock())
    recent.catch_up([entry("a", 10)])
    for _ in range(3):
        recent.give("a")
    assert recent.counts() == {"a": 3}
    recent.catch_up([entry("a", 12)])
    assert recent.counts() == {"a": 1}
    recent.catch_up([entry("a", 5)])
    assert recent.counts() == {"a": 1}


def test_a_seat_that_nobody_took_is_forgotten_and_so_is_a_pod_that_is_gone():
    clock = Clock()
    recent = Recent(clock)
    recent.give("a")
    clock.s += RECENT_S + 0.1
    assert recent.counts() == {"a": 0}
    recent.catch_up([entry("a", 0)])
    recent.give("a")
    recent.catch_up([])
    assert recent.counts() == {}


class Store(msgspec.Struct):
    """Devices of which some are live, answered when the gate opens."""

    live: set[str]
    gate: asyncio.Event
    asked: list[list[str]] = []

    async def live_devices(self, device_ids):
        self.asked.append(list(device_ids))
        found = self.live & set(device_ids)
        await self.gate.wait()
        return found


async def test_a_device_revoked_while_it_is_looked_up_is_not_remembered_as_live():
    store = Store({"d"}, asyncio.Event())
    liveness = Liveness(store, Clock())
    asking = asyncio.create_task(liveness.is_live("d"))
    while not store.asked:
        await asyncio.sleep(0)
    store.live.clear()
    liveness.drop(["d"])
    store.gate.set()
    await asking
    assert not await liveness.is_live("d")


async def test_live_devices_are_asked_together_and_remembered_for_two_seconds():
    clock, gate = Clock(), asyncio.Event()
    gate.set()
    store = Store({"a", "b"}, gate)
    liveness = Liveness(store, clock)
    assert await asyncio.gather(*(liveness.is_live(d) for d in ("a", "b", "c", "a"))) == [
        True,
        True,
        False,
        True,
    ]
    assert len(store.asked) == 1
    assert await liveness.is_live("a") and len(store.asked) == 1
    assert not await liveness.is_live("c") and len(store.asked) == 2
    clock.s += 2.1
    assert await liveness.is_live("a") and len(store.asked) == 3
