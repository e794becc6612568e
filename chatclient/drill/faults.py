"""The faults. Each strikes when entered and heals when left, so that several can be on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random

from chatclient.control import ClusterStatus, Control, Refused
from chatclient.drill.crowd import Device
from chatclient.errors import Unreachable
from chatclient.link import Link
from chatkernel.protocol import History

FREEZE_S = 8.0
"""Longer than a pod's lease (5 s unless set otherwise) and some renewals: it wakes up in a changed world."""

SLOW_S = 5.0
SLOW_DEVICES = 3
SLOW_REQUESTS = 200
"""Pages of history that a device asks for and does not read: they fill its outbox on the pod."""

RESUMED_S = 1.0
"""What a device that reads again needs to see that it was let go."""

CUT_SHARE = 0.3
"""Of all connections, cut at once."""

WAIT_NOTICED_S = 15.0

WAIT_WHOLE_S = 60.0
"""How long the cluster may take to be as it was."""


class NoControl(Exception):
    """A fault that needs the cluster's control socket, and there is none."""


@dataclass(slots=True)
class Arena:
    """What faults work on. `lost_at`: device → when its pod was killed; filled by faults, read by the
    runner."""

    devices: list[Device]
    control: Control | None
    rng: Random
    now: Callable[[], float]
    lost_at: dict[Device, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def server(self) -> Control:
        if self.control is None:
            raise NoControl
        return self.control

    def busiest_choice(self) -> str:
        """A pod that has clients."""
        pods = sorted({pod for device in self.devices if (pod := device.client.pod) is not None})
        if not pods:
            raise Unreachable("no client is connected")
        return self.rng.choice(pods)

    async def pods(self, kind: str) -> list[str]:
        return (await self.server().status()).ready(kind)

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Looks 20 times a second: nobody tells us of three hundred clients' states at once."""
        deadline = self.now() + timeout_s
        while not condition():
            if self.now() >= deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def noticed(self, told: Callable[[ClusterStatus], bool]) -> None:
        """Waits until the cluster says so of itself: before that it looks whole."""
        deadline = self.now() + WAIT_NOTICED_S
        while not told(await self.server().status()) and self.now() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def whole(self, chat_pods: int) -> bool:
        """Waits until that many chat pods, an API pod and a worker serve, and no other chat pod is left; False
        when it takes too long."""
        deadline = self.now() + WAIT_WHOLE_S
        while self.now() < deadline:
            with suppress(Refused, Unreachable):
                status = await self.server().status()
                counts = {kind: len(status.ready(kind)) for kind in ("chat", "api", "worker")}
                present = sum(pod.kind == "chat" for pod in status.pods)
                if present == counts["chat"] == chat_pods and counts["api"] and counts["worker"]:
                    return True
            await asyncio.sleep(0.1)
        self.notes.append("the cluster was not whole again in time")
        return False


Fault = Callable[[Arena], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def kill_pod(arena: Arena) -> AsyncIterator[None]:
    pod = arena.busiest_choice()
    now = arena.now()
    arena.lost_at.update({device: now for device in arena.devices if device.client.pod == pod})
    await arena.server().ask("kill", pod=pod)
    arena.notes.append(f"killed {pod}")
    yield
    await arena.noticed(lambda status: pod not in status.ready("chat"))


@asynccontextmanager
async def freeze_pod(arena: Arena) -> AsyncIterator[None]:
    pod = arena.busiest_choice()
    await arena.server().ask("freeze", pod=pod)
    started = arena.now()
    arena.notes.append(f"froze {pod}")
    yield
    await asyncio.sleep(max(0.0, started + FREEZE_S - arena.now()))
    try:
        await arena.server().ask("thaw", pod=pod)
    except Refused:
        arena.notes.append(f"{pod} had been replaced before it could wake up")


@asynccontextmanager
async def kill_redis(arena: Arena) -> AsyncIterator[None]:
    server = arena.server()
    restarts = (await server.status()).redis.restarts
    await server.ask("redis", action="kill")
    yield
    await arena.noticed(lambda status: status.redis.restarts != restarts and status.redis.state == "up")


@asynccontextmanager
async def flush_redis(arena: Arena) -> AsyncIterator[None]:
    await arena.server().ask("redis", action="flush")
    yield


async def _kill_one(arena: Arena, kind: str) -> str:
    pods = await arena.pods(kind)
    if not pods:
        raise Refused(f"no {kind} pod is ready")
    pod = arena.rng.choice(pods)
    await arena.server().ask("kill", pod=pod)
    arena.notes.append(f"killed {pod}")
    return pod


@asynccontextmanager
async def kill_api(arena: Arena) -> AsyncIterator[None]:
    pod = await _kill_one(arena, "api")
    yield
    await arena.noticed(lambda status: pod not in status.ready("api"))


@asynccontextmanager
async def kill_worker(arena: Arena) -> AsyncIterator[None]:
    pod = await _kill_one(arena, "worker")
    yield
    await arena.noticed(lambda status: pod not in status.ready("worker"))


@asynccontextmanager
async def scale(arena: Arena) -> AsyncIterator[None]:
    """One pod more, then one less than before, then as before: the pods that go move their clients."""
    count = len(await arena.pods("chat"))
    await arena.server().ask("scale", replicas=count + 1)
    await arena.whole(count + 1)
    yield
    if count > 1:
        await arena.server().ask("scale", replicas=count - 1)
        await arena.whole(count - 1)
    await arena.server().ask("scale", replicas=count)
    await arena.whole(count)


@asynccontextmanager
async def drain(arena: Arena) -> AsyncIterator[None]:
    """A pod is asked to go; its replacement comes first."""
    pod = arena.busiest_choice()
    await arena.server().ask("drain", pod=pod)
    arena.notes.append(f"drained {pod}")
    yield
    await arena.until(lambda: all(device.client.pod != pod for device in arena.devices), WAIT_WHOLE_S)
    if pod in await arena.pods("chat"):
        with suppress(Refused):
            await arena.server().ask("undrain", pod=pod)


@asynccontextmanager
async def cut_connections(arena: Arena) -> AsyncIterator[None]:
    """As when a network drops: no goodbye in either direction."""
    victims = [device for device in arena.devices if arena.rng.random() < CUT_SHARE]
    cut = {device.client.link for device in victims} - {None}
    for link in cut:
        if link is not None:
            link.abort()
    arena.notes.append(f"cut {len(victims)}")
    yield
    await arena.until(lambda: not any(device.client.link in cut for device in victims), WAIT_WHOLE_S)


@asynccontextmanager
async def slow_reader(arena: Arena) -> AsyncIterator[None]:
    """Devices that ask for much and read nothing: their pod must let them go, and nobody else may notice."""
    connected = [device for device in arena.devices if device.client.connected]
    slow: list[Link] = []
    for device in arena.rng.sample(connected, min(SLOW_DEVICES, len(connected))):
        link = device.client.link
        largest = max(device.client.cursors, key=device.client.cursors.__getitem__, default=None)
        if link is None or link.socket is None or largest is None:
            continue
        link.patient = True  # it would let itself go for the pong that it does not read
        link.socket.pause_reading()
        slow.append(link)
        for n in range(SLOW_REQUESTS):
            link.send(History(f"slow{n}", largest, limit=200))
    yield
    await asyncio.sleep(SLOW_S)
    for link in slow:
        if link.socket is not None:
            link.socket.resume_reading()
    await asyncio.sleep(RESUMED_S)
    codes = [int(link.close_code) for link in slow if link.close_code is not None]
    arena.notes.append(f"{len(slow)} slow, {len(codes)} of them let go (close codes {codes})")


FAULTS: dict[str, Fault] = {
    "kill-pod": kill_pod,
    "freeze-pod": freeze_pod,
    "kill-redis": kill_redis,
    "flush-redis": flush_redis,
    "kill-api": kill_api,
    "kill-worker": kill_worker,
    "scale": scale,
    "drain": drain,
    "cut-connections": cut_connections,
    "slow-reader": slow_reader,
}

CLIENT_SIDE = frozenset({"cut-connections", "slow-reader"})
"""Faults that need nothing of the cluster."""

COMBINED = ("kill-pod+flush-redis",)
"""Part of `all`; any others may be joined by `+` as well."""

MOVING = frozenset({"scale", "drain"})
"""Faults in which a client is asked to move, once."""


def expand(names: list[str]) -> list[str]:
    """`all` is every fault, alone and the usual pairs. Raises ValueError naming what there is."""
    out: list[str] = []
    for name in names:
        if name == "all":
            out += [*FAULTS, *COMBINED]
            continue
        for part in name.split("+"):
            if part not in FAULTS:
                known = ", ".join([*FAULTS, *COMBINED, "all"])
                raise ValueError(f"no fault is called {part}; there are: {known}")
        out.append(name)
    return out


def needs_control(name: str) -> bool:
    return any(part not in CLIENT_SIDE for part in name.split("+"))
