"""What Redis costs, and what a second shard brings: `python -m bench.redis_cluster [--events N]`.

Events go over the real bus, from publishers to pods that read, through a Redis Cluster of one shard and then of two.
The machine's cores are shared by Redis, publishers and readers (all in one process, which is what limits them), so
events per second of the clock say little about Redis. What counts is how many go through

- before the busiest shard has used a second of CPU: what the shards could carry, had each a core of its own;
- for each second of CPU of all shards together: what an event costs, which is less the more go out together.

Two shards carry the load of one, which makes their batches smaller, and that of a cluster twice as large (pods,
channels, events), for which one would get two: then as much comes together at each shard as at the one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

from bench.cluster import free_port
from chatkernel.bus import Bus, BusGap, EventEnvelope, Post
from chatkernel.errors import ChatError
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.presence import Audience, PresenceStore
from chatkernel.redis_client import Redis, connect, execute
from chatkernel.redis_cluster import SLOTS
from chatkernel.registry import PodEntry, PodState, Registry
from chatkernel.routes import Routes
from chatkernel.settings import PresenceSettings
from chatoperator.embedded import find_server

PODS = 32
PODS_PER_CHANNEL = 4
CHANNELS = 64
PUBLISHERS = 8
FRAME_BYTES = 300
TOGETHER = 64
"""Events of a publisher that go out in one batch. Those here are of the smallest cluster."""
PEOPLE = 5_000
CHANNELS_PER_PERSON = 10


class Shard:
    """One primary without a replica."""

    def __init__(self, folder: Path) -> None:
        self.port, self.bus_port = free_port(), free_port()
        folder.mkdir()
        config = {"port": self.port, "cluster-port": self.bus_port, "cluster-enabled": "yes", "save": '""'}
        lines = [
            f"{name} {value}\n" for name, value in {**config, "dir": folder, "bind": "127.0.0.1"}.items()
        ]
        (folder / "redis.conf").write_text("".join(lines))
        command = [str(find_server()), str(folder / "redis.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.redis = connect(f"redis://127.0.0.1:{self.port}")

    async def info(self, section: str) -> dict[str, str]:
        (found,) = await execute(self.redis, [("INFO", section)])
        return dict(line.split(":", 1) for line in found.decode().splitlines() if ":" in line)

    async def cpu_s(self) -> float:
        info = await self.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    async def aclose(self) -> None:
        await self.redis.aclose()
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def cluster_of(count: int) -> AsyncIterator[tuple[str, list[Shard]]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shards = [Shard(folder / str(number)) for number in range(count)]
        for shard in shards:
            stack.push_async_callback(shard.aclose)
        await _until(shards, lambda _: True)
        for number, shard in enumerate(shards):
            slots = (SLOTS * number // count, SLOTS * (number + 1) // count - 1)
            await execute(shard.redis, [("CLUSTER", "ADDSLOTSRANGE", *slots)])
            meet = ("CLUSTER", "MEET", "127.0.0.1", shards[0].port, shards[0].bus_port)
            await execute(shard.redis, [meet] if number else [])
        await _until(shards, lambda info: info.get("cluster_state") == "ok")
        yield f"redis+cluster://{','.join(f'127.0.0.1:{shard.port}' for shard in shards)}", shards


async def _until(shards: list[Shard], holds: Callable[[dict[str, str]], bool]) -> None:
    async with asyncio.timeout(20):
        for shard in shards:
            while not await _holds(shard, holds):
                await asyncio.sleep(0.05)


async def _holds(shard: Shard, holds: Callable[[dict[str, str]], bool]) -> bool:
    try:
        (text,) = await execute(shard.redis, [("CLUSTER", "INFO")])
    except ChatError:
        return False
    return holds(dict(line.split(":", 1) for line in text.decode().split()))


class Carried(NamedTuple):
    """Of one run. `per_busiest_s`, `per_cpu_s`: events per CPU-second of the busiest shard, and of all together."""

    per_busiest_s: float
    per_cpu_s: float
    busiest_share: float
    """Of all that the shards used; evenly spread it is one by their number."""


async def carry(url: str, shards: list[Shard], events: int, size: int) -> Carried:
    """`size`: how many times as large the cluster is as the smallest here."""
    pods, channels = PODS * size, CHANNELS * size
    events *= size
    keys, stop = Keys("bench", "shards"), asyncio.Event()
    heard = asyncio.Semaphore(0)
    async with AsyncExitStack() as stack:
        readers = []
        for number in range(pods):
            redis = await stack.enter_async_context(connect(url))
            routes = Routes(redis, keys, f"chat-{number + 1}")
            bus = Bus(redis, keys, routes, f"chat-{number + 1}")
            await bus.open()
            await routes.add(
                channels=[f"c{n}" for n in range(channels) if (number - n) % (pods // PODS_PER_CHANNEL) == 0]
            )
            readers.append(asyncio.create_task(_read(bus, stop, heard)))
        buses = []
        for _ in range(PUBLISHERS):
            redis = await stack.enter_async_context(connect(url))
            buses.append(Bus(redis, keys, Routes(redis, keys, ""), ""))
        before, began = [await shard.cpu_s() for shard in shards], monotonic()
        await asyncio.gather(
            *[_publish(bus, first, events // PUBLISHERS, size) for first, bus in enumerate(buses)]
        )
        for _ in range(events // PUBLISHERS * PUBLISHERS * PODS_PER_CHANNEL):
            await heard.acquire()
        took_s = monotonic() - began
        used = [await shard.cpu_s() - cpu for shard, cpu in zip(shards, before, strict=True)]
        stop.set()
        await asyncio.gather(*readers)
    carried = Carried(events / max(used), events / sum(used), max(used) / sum(used))
    shown = ", ".join(f"{cpu:.2f}" for cpu in used)
    print(
        f"{len(shards)} shard(s), {pods} pods: {events} events, {events / took_s:,.0f}/s; "
        f"CPU-s by shard {shown}; {carried.per_busiest_s:,.0f} events per CPU-second of the busiest, "
        f"{carried.per_cpu_s:,.0f} of all"
    )
    return carried


async def _read(bus: Bus, stop: asyncio.Event, heard: asyncio.Semaphore) -> None:
    async for item in bus.read(stop):
        assert not isinstance(item, BusGap)
        for _ in item:
            heard.release()


async def _publish(bus: Bus, first: int, count: int, size: int) -> None:
    """As a busy pod does: what has come meanwhile goes out together."""
    frame = b"x" * FRAME_BYTES
    together = TOGETHER * size
    channels = [f"c{(first + seq * 7) % (CHANNELS * size)}" for seq in range(count)]
    posts = [Post(EventEnvelope(name, seq, frame, False), (name,)) for seq, name in enumerate(channels)]
    for start in range(0, count, together):
        await bus.publish(posts[start : start + together])


class Meter:
    """Memory and commands of everything since the last reading."""

    def __init__(self, shard: Shard) -> None:
        self._shard, self._memory, self._commands = shard, 0, 0

    async def read(self) -> tuple[int, int]:
        memory = int((await self._shard.info("memory"))["used_memory"])
        commands = int((await self._shard.info("stats"))["total_commands_processed"])
        found = memory - self._memory, commands - self._commands - 2
        self._memory, self._commands = memory, commands
        return found

    async def show(self, what: str, count: int) -> None:
        memory, commands = await self.read()
        print(f"{what}: {memory / count:,.0f} bytes, {commands / count:.2f} commands")


async def weigh(redis: Redis, shard: Shard) -> None:
    """What is kept for a person, a channel, a pod."""
    keys, meter = Keys("chat", "laptop"), Meter(shard)
    presence = PresenceStore(redis, keys, PresenceSettings())
    routes, people = Routes(redis, keys, "chat-1"), [f"u_{n:022}" for n in range(PEOPLE)]
    await presence.beat([("warm", "up")])
    await meter.read()
    await presence.beat([(person, f"d_{person}") for person in people])
    await meter.show("presence of a person with one device", PEOPLE)
    await presence.beat([(person, f"d_{person}") for person in people])
    await meter.show("a later beat (all of a pod's devices in one batch)", PEOPLE)
    audience = Audience([f"local_c{n:020}" for n in range(CHANNELS_PER_PERSON)], people[:5])
    await asyncio.gather(*[presence.set_audience(person, audience) for person in people])
    await meter.show(f"whom to tell of a person: {CHANNELS_PER_PERSON} channels and 5 friends", PEOPLE)
    await routes.add(users=people)
    await meter.show("route to a person", PEOPLE)
    await routes.add(channels=[f"local_c{n:020}" for n in range(PEOPLE)])
    await meter.show("channel with a member at one pod", PEOPLE)
    for pod in ("chat-2", "chat-3", "chat-4"):
        await Routes(redis, keys, pod).add(channels=[f"local_c{n:020}" for n in range(PEOPLE)])
    await meter.show("channel, for each further pod", 3 * PEOPLE)
    registry = Registry(redis, keys)
    await meter.read()
    for number in range(100):
        entry = PodEntry(
            f"chat-{number}",
            "0" * 12,
            "ws://127.0.0.1:20000/v1/socket",
            "local",
            "0" * 8,
            PodState.READY,
            0,
            10_000,
            1,
        )
        await registry.renew(entry, 5.0)
        await Bus(redis, keys, Routes(redis, keys, entry.name), entry.name).open()
    await meter.show("pod: registry entry and empty stream", 100)
    await Intents(redis, keys, "chat-1").begin([f"local_c{n:020}" for n in range(1_000)])
    await meter.show("intent", 1_000)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=32_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    async with cluster_of(1) as (url, shards), connect(url) as redis:
        await weigh(redis, shards[0])
    carried: dict[tuple[int, int], list[Carried]] = {(1, 1): [], (2, 1): [], (2, 2): []}
    for _ in range(options.rounds):
        for (count, size), found in carried.items():
            async with cluster_of(count) as (url, shards):
                found.append(await carry(url, shards, options.events, size))
    one = median(run.per_busiest_s for run in carried[1, 1])
    for size, of in ((1, "the same load"), (2, "twice the load")):
        runs = carried[2, size]
        print(
            f"two shards, {of}: {median(run.per_busiest_s for run in runs) / one:.2f} times the events of one per "
            f"CPU-second of the busiest, which does {median(run.busiest_share for run in runs):.0%} of the work; "
            f"{median(run.per_cpu_s for run in runs) / one:.2f} times per CPU-second of all (medians)"
        )


if __name__ == "__main__":
    asyncio.run(main())
