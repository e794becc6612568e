"""The pace of moving, and what a drain that is taken back leaves."""

from __future__ import annotations

import asyncio

from support.live import live

from chatkernel.errors import Close
from chatkernel.ids import now_ms
from chatkernel.protocol import Migrate, ServerFrame
from chatkernel.settings import DrainSettings
from chatpod.drain import Drainer


class FakeConnection:
    def __init__(self) -> None:
        self.closed_with: int | None = None

    def close(self, code: Close, reason: str = "") -> None:
        self.closed_with = code


class FakeClient:
    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.migrating = self.opening = False
        self.connection = FakeConnection()
        self.told: list[float] = []

    def send(self, frame: ServerFrame) -> None:
        assert isinstance(frame, Migrate)
        self.told.append(asyncio.get_running_loop().time())


class FakeHub:
    def __init__(self, number: int) -> None:
        self.clients = {f"s{n}": FakeClient(f"s{n}") for n in range(number)}
        self.all = list(self.clients.values())

    def leave(self) -> None:
        """Those that were told go."""
        self.clients = {name: client for name, client in self.clients.items() if not client.told}


def drainer_of(hub: FakeHub, deadline_s: float, rate_per_s: float) -> Drainer:
    return Drainer(hub, live(drain=DrainSettings(deadline_s, rate_per_s)), now_ms)  # type: ignore[arg-type]


async def test_clients_are_told_at_the_given_rate_and_once() -> None:
    hub = FakeHub(20)
    drainer = drainer_of(hub, 5.0, 40.0)
    drainer.drain()
    drainer.drain()
    while hub.clients:
        await asyncio.sleep(0.02)
        hub.leave()
    await drainer.finished()
    times = sorted(at for client in hub.all for at in client.told)
    assert [len(client.told) for client in hub.all] == [1] * 20
    assert 0.3 < times[-1] - times[0] < 1.5
    assert [client.connection.closed_with for client in hub.all] == [None] * 20


async def test_less_than_one_in_a_second_is_not_none() -> None:
    hub = FakeHub(1)
    drainer = drainer_of(hub, 2.0, 0.1)
    drainer.drain()
    over = asyncio.create_task(drainer.finished())
    while not over.done():
        await asyncio.sleep(0.02)
        hub.leave()
    (client,) = hub.all
    assert (len(client.told), client.connection.closed_with) == (1, None)


async def test_who_stays_is_closed_resumably_at_the_deadline() -> None:
    hub = FakeHub(3)
    drainer = drainer_of(hub, 0.2, 100.0)
    drainer.drain()
    await asyncio.wait_for(drainer.finished(), 2)
    assert [client.connection.closed_with for client in hub.all] == [Close.MIGRATED] * 3


async def test_a_drain_after_one_that_was_taken_back_tells_everybody_again() -> None:
    hub = FakeHub(4)
    drainer = drainer_of(hub, 5.0, 1000.0)
    drainer.drain()
    await asyncio.sleep(0.12)
    drainer.undrain()
    assert not drainer.draining and [len(client.told) for client in hub.all] == [1] * 4
    drainer.drain()
    await asyncio.sleep(0.12)
    assert [len(client.told) for client in hub.all] == [2] * 4
    drainer.undrain()


async def test_shedding_moves_so_many_and_the_pod_stays() -> None:
    hub = FakeHub(10)
    drainer = drainer_of(hub, 5.0, 1000.0)
    drainer.shed(4)
    await asyncio.sleep(0.12)
    assert sum(len(client.told) for client in hub.all) == 4
    assert not drainer.draining
    hub.leave()
    await asyncio.wait_for(drainer.finished(), 2)
    assert [client.connection.closed_with for client in hub.clients.values()] == [None] * 6
