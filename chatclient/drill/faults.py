"""The faults. Each strikes when entered and heals when left, so that several can be on at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chatclient.connection import Socket
from chatclient.control import ClusterStatus, Control, Refused
from chatclient.drill.crowd import Device
from chatclient.errors import Unreachable
from chatclient.link import Link
from chatkernel.errors import ChatError, Close
from chatkernel.protocol import History, Ping

FREEZE_S = 8.0
"""Longer than a pod's lease (5 s unless set otherwise) and some renewals: it wakes up in a changed world."""

SLOW_S = 5.0
SLOW_DEVICES = 3
SLOW_REQUESTS = 200
"""Pages of history that a device asks for and does not read: they fill its outbox on the pod."""
SLOW_ROUNDS = 4
"""It asks that often: a pod takes only so many requests at once, and kernels hold megabytes before an outbox
fills."""

SLOW_MARK = "slow-mark"
"""The ping whose pong ends what was surely written while nothing was read."""
SLOW_MARK_S = 1.0
"""So long before it reads again a device sends its mark; a pod that needs longer is not judged."""

RESUMED_S = 3.0
"""What a device that reads again needs at most to see all that was kept for it, or that it was let go."""
LET_GO_S = 1.0
"""After the mark: the pod's goodbye may be on its way."""

SEND_BUFFER_MIN_BYTES = 4 * 1024 * 1024
"""What a pod's kernel may hold of a connection, unless this machine's is set to more."""

CUT_SHARE = 0.3
"""Of all connections, cut at once."""

WAIT_NOTICED_S = 15.0

WAIT_WHOLE_S = 60.0
"""How long the cluster may take to be as it was."""


class NoControl(Exception):
    """A fault that needs the cluster's control socket, and there is none."""


class SlowReader:
    """A device's connection that is not read, and how much was kept for it meanwhile."""

    def __init__(self, device: Device, link: Link, reader: Socket, channel_id: str) -> None:
        self.device, self.link = device, link
        self.kept_bytes = 0
        """Read up to the mark: written by the pod while nothing was read."""
        self.marked = False
        self._reader, self._channel_id = reader, channel_id
        self._asked = 0
        self._on_data = reader._on_data
        reader._on_data = self._count
        transport = reader._transport
        kernel: socket.socket | None = transport.get_extra_info("socket") if transport else None
        self._receive_buffer_bytes = kernel.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) if kernel else 0

    def _count(self, data: bytes) -> None:
        if not self.marked:
            self.marked = len(data) < 1000 and SLOW_MARK.encode() in data
            self.kept_bytes += len(data)
        self._on_data(data)

    def stop_reading(self) -> None:
        self.link.patient = True  # it would let itself go for the pong that it does not read
        self._reader.pause_reading()

    def ask_for_much(self) -> None:
        for _ in range(SLOW_REQUESTS):
            self._asked += 1
            self.link.send(History(f"slow{self._asked}", self._channel_id, limit=200))

    def send_mark(self) -> None:
        self.link.send(Ping(SLOW_MARK))

    def read_again(self) -> None:
        self._reader.resume_reading()

    @property
    def told(self) -> bool:
        """Nothing more can be learnt from it."""
        return self.marked or self.link.close_code is not None

    @property
    def let_go(self) -> bool:
        # 1006: the pod cut the connection because not even its goodbye was read.
        return self.link.close_code in (Close.SLOW_CONSUMER, 1006)

    @property
    def was_kept(self) -> bool:
        """Still connected, though more was written for it than kernels and outbox may hold."""
        outbox_bytes = self.device.client.limits.outbox_max_bytes
        # Twice the outbox: a pod looks at what earlier turns left unsent, so that a large write may come on top.
        may_hold = 2 * outbox_bytes + self._receive_buffer_bytes + _send_buffer_max_bytes()
        return self.link.is_open and self.kept_bytes > may_hold


def _send_buffer_max_bytes() -> int:
    try:
        told = Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()
        return max(SEND_BUFFER_MIN_BYTES, int(told[-1]))
    except (OSError, ValueError, IndexError):
        return SEND_BUFFER_MIN_BYTES


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
    seated: list[tuple[float, dict[Device, str]]] = field(default_factory=list)
    """When pods were asked to go, and on which pod each device was that they may have had."""
    hit: set[Device] = field(default_factory=set)
    """Devices that lost or may lose their connection by a fault that is no drain."""
    slow: list[SlowReader] = field(default_factory=list)

    def forget(self) -> None:
        """Before the next fault."""
        for kept in (self.lost_at, self.notes, self.seated, self.hit, self.slow):
            kept.clear()

    def hit_all_on(self, pod: str) -> None:
        self.hit.update(device for device in self.devices if device.client.pod == pod)

    def note_seats(self, going: str | None = None) -> None:
        """Call before pods are asked to go. None: any may go."""
        pods = {device: device.client.pod for device in self.devices}
        seats = {device: pod for device, pod in pods.items() if pod and going in (None, pod)}
        self.seated.append((self.now(), seats))

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
    arena.hit_all_on(pod)
    await arena.server().ask("kill", pod=pod)
    arena.notes.append(f"killed {pod}")
    yield
    await arena.noticed(lambda status: pod not in status.ready("chat"))


@asynccontextmanager
async def freeze_pod(arena: Arena) -> AsyncIterator[None]:
    pod = arena.busiest_choice()
    arena.hit_all_on(pod)
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
        arena.note_seats()
        await arena.server().ask("scale", replicas=count - 1)
        await arena.whole(count - 1)
    await arena.server().ask("scale", replicas=count)
    await arena.whole(count)


@asynccontextmanager
async def drain(arena: Arena) -> AsyncIterator[None]:
    """A pod is asked to go; its replacement comes first."""
    pod = arena.busiest_choice()
    arena.note_seats(pod)
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
    arena.hit.update(victims)
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
    slow: list[SlowReader] = []
    for device in arena.rng.sample(connected, min(SLOW_DEVICES, len(connected))):
        link = device.client.link
        largest = max(device.client.cursors, key=device.client.cursors.__getitem__, default=None)
        if link is None or link.socket is None or largest is None:
            continue
        slow.append(SlowReader(device, link, link.socket, largest))
    arena.hit.update(one.device for one in slow)
    for one in slow:
        one.stop_reading()
        one.ask_for_much()
    yield
    for _ in range(SLOW_ROUNDS - 1):
        await asyncio.sleep((SLOW_S - SLOW_MARK_S) / SLOW_ROUNDS)
        for one in slow:
            one.ask_for_much()
    await asyncio.sleep((SLOW_S - SLOW_MARK_S) / SLOW_ROUNDS)
    for one in slow:
        one.send_mark()
    awake = await _awake_pods(arena, slow)
    for one in slow:
        one.read_again()
    await arena.until(lambda: all(one.told for one in slow), RESUMED_S)
    await asyncio.sleep(LET_GO_S)
    codes = [int(one.link.close_code) for one in slow if one.link.close_code is not None]
    arena.notes.append(f"{len(slow)} slow, {len(codes)} of them let go (close codes {codes})")
    # A pod that answers nobody in time may write after the reading began: it is let off.
    arena.slow += [one for one in slow if one.let_go or one.link.pod in awake]


async def _awake_pods(arena: Arena, slow: list[SlowReader]) -> set[str]:
    """After the mark's time: those of the slow ones' pods that answered somebody else in it, and so have taken
    the mark."""
    lazy = {one.device for one in slow}

    async def ask(pod: str) -> str | None:
        others = (device for device in arena.devices if device not in lazy and device.client.pod == pod)
        other = next((device for device in others if device.client.cursors), None)
        if other is None:
            return None
        with suppress(ChatError, Unreachable, TimeoutError):
            async with asyncio.timeout(SLOW_MARK_S):
                await other.client.history(next(iter(other.client.cursors)), limit=1)
            return pod
        return None

    answers, _ = await asyncio.gather(
        asyncio.gather(*(ask(pod) for pod in {one.link.pod for one in slow})), asyncio.sleep(SLOW_MARK_S)
    )
    return {pod for pod in answers if pod is not None}


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
