"""The faults. Each strikes when entered and heals when left, so that several can be on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from chatclient.control import Refused
from chatclient.drill.arena import WAIT_WHOLE_S, Arena
from chatclient.drill.programs import PREFIX, program_of
from chatclient.drill.slowness import SlowReader
from chatclient.errors import Unreachable
from chatkernel.errors import ChatError

FREEZE_S = 8.0
"""Longer than a pod's lease (5 s unless set otherwise) and some renewals: it wakes up in a changed world."""

SLOW_S = 5.0
SLOW_DEVICES = 3
SLOW_ROUNDS = 4
"""It asks that often: a pod takes only so many requests at once, and kernels hold megabytes before an outbox
fills."""

SLOW_MARK_S = 1.0
"""So long before it reads again a device sends its mark; a pod that needs longer is not judged."""

RESUMED_S = 3.0
"""What a device that reads again needs at most to see all that was kept for it, or that it was let go."""
LET_GO_S = 1.0
"""After the mark: the pod's goodbye may be on its way."""

CUT_SHARE = 0.3
"""Of all connections, cut at once."""

Fault = Callable[[Arena], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def kill_pod(arena: Arena) -> AsyncIterator[None]:
    pod = arena.busiest_choice()
    lost_at = dict.fromkeys((device for device in arena.devices if device.client.pod == pod), arena.now())
    arena.hit_all_on(pod)
    await arena.server().ask("kill", pod=pod)
    arena.lost_at.update(lost_at)
    arena.notes.append(f"killed {pod}")
    yield
    await arena.noticed(lambda status: pod not in status.ready("chat"))


@asynccontextmanager
async def freeze_pod(arena: Arena) -> AsyncIterator[None]:
    pod = arena.busiest_choice()
    arena.hit_all_on(pod)
    try:
        await arena.server().ask("freeze", pod=pod)
        started = arena.now()
        arena.notes.append(f"froze {pod}")
        yield
        await asyncio.sleep(max(0.0, started + FREEZE_S - arena.now()))
    finally:  # whatever interrupts the drill, nobody else would wake it up
        await _mend(arena, f"{pod} had been replaced before it could wake up", "thaw", pod=pod)


async def _mend(arena: Arena, otherwise: str, do: str, **fields: Any) -> None:
    """An order that undoes a fault. Raises nothing: it may be on the way out of an interrupted drill."""
    try:
        await arena.server().ask(do, **fields)
    except Refused:
        arena.notes.append(otherwise)
    except Unreachable as error:
        arena.notes.append(str(error))


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
    count = (await arena.server().status()).chat_replicas
    try:
        await arena.server().ask("scale", replicas=count + 1)
        await arena.whole(count + 1)
        yield
        fewer = max(1, count - 1)
        seating = arena.note_seats()
        await arena.server().ask("scale", replicas=fewer)
        await arena.whole(fewer)
        seating.went = set(seating.pods.values()) - await arena.present("chat")
    finally:  # whatever interrupts the drill
        await _mend(arena, "the cluster would not be scaled back", "scale", replicas=count)
    await arena.whole(count)


@asynccontextmanager
async def drain(arena: Arena) -> AsyncIterator[None]:
    """A pod is asked to go; its replacement comes first."""
    pod = arena.busiest_choice()
    seating = arena.note_seats()
    await arena.server().ask("drain", pod=pod)
    seating.went = {pod}
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

OF_REDIS = frozenset({"kill-redis", "flush-redis"})
"""Faults of the cluster's own Redis; one that it was given is not ours to break."""

CLIENT_SIDE = frozenset({"cut-connections", "slow-reader"})
"""Faults that need nothing of the cluster."""

COMBINED = ("kill-pod+flush-redis",)
"""Part of `all`; any others may be joined by `+` as well."""

MOVING = frozenset({"scale", "drain"})
"""Faults in which a client is asked to move, once."""


def expand(names: list[str]) -> list[str]:
    """`all` is every fault, alone and the usual pairs. Raises ValueError naming what there is, or a program that
    is not."""
    out: list[str] = []
    for name in names:
        if name == "all":
            out += [*FAULTS, *COMBINED]
            continue
        for part in name.split("+"):
            if part not in FAULTS and program_of(part) is None:
                known = ", ".join([*FAULTS, *COMBINED, "all", f"{PREFIX}PROGRAM"])
                raise ValueError(f"no fault is called {part}; there are: {known}")
        out.append(name)
    return out


def fault_of(part: str) -> Fault:
    """Raises ValueError as `expand` does."""
    program = program_of(part)
    return FAULTS[part] if program is None else program.fault


def label_of(name: str) -> str:
    """What reports call it: of a program the name alone."""
    programs = ((part, program_of(part)) for part in name.split("+"))
    return "+".join(part if program is None else program.label for part, program in programs)


def has_program(name: str) -> bool:
    return any(part.startswith(PREFIX) for part in name.split("+"))


def needs_control(name: str) -> bool:
    return any(part not in CLIENT_SIDE and not part.startswith(PREFIX) for part in name.split("+"))


def needs_own_redis(name: str) -> bool:
    return bool(OF_REDIS & set(name.split("+")))
