"""What happens to a Redis: by name, what is done to a real one, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from support.proxy import proxy_to
from support.redis_servers import REDIS_7, VALKEY, Server, cluster_servers, one_server, sentinels, until

from chatkernel.redis_cluster import slot_of
from chatkernel.settings import PresenceSettings
from drills.rig import Fault, Pods

STOPPED_S = 60.0
FULL_S = 40.0
"""Longer than the 30 s after which a lease of presence that nobody can renew has run out."""
OLD_S = 10.0
SLOW_S = 20.0
DELAY_S = 0.03
SPLIT_S = 20.0
"""Longer than three leases, after which a worker forgets a pod, and shorter than the 30 s after which somebody who is
not heard of is told to be off line: pods on the other side cannot know better."""
RAN_OUT_S = PresenceSettings().offline_after_s + 1.0
"""After this every lease of a copy has run out."""
BLINKS, BLINK_EVERY_S = 12, 1.3
"""At another moment of what is done each second, each time."""
PASSING_S = 3.0
"""For what is over at once."""


async def _nothing() -> None:
    pass


@asynccontextmanager
async def failover() -> AsyncIterator[Fault]:
    """The primary is killed under three Sentinels; the strike lasts until another has its place."""
    with sentinels(REDIS_7 or VALKEY) as servers:
        killed: list[Server] = []
        back: list[Server] = []

        async def strike(_: Pods) -> Pods:
            if back:
                # It has to follow, and the Sentinels to know that it does: then another failover can begin.
                again = back.pop()
                await asyncio.to_thread(until, lambda: again.do("ROLE")[0] == b"slave", 30.0)
                await asyncio.to_thread(servers.settle_again)
            primary = await asyncio.to_thread(servers.primary)
            (other,) = (server for server in servers.data if server is not primary)
            primary.kill()
            killed.append(primary)
            await asyncio.to_thread(until, lambda: other.do("ROLE")[0] == b"master")
            return []

        async def heal() -> None:
            if killed:
                back.append(killed.pop())
                await _start(back[-1])

        yield Fault(("--redis", servers.url), strike, heal, PASSING_S)


@asynccontextmanager
async def cluster_failover() -> AsyncIterator[Fault]:
    """Of six nodes the primary that has the registry is killed; the strike lasts until its replica has its place."""
    with cluster_servers(VALKEY) as servers:
        killed: list[Server] = []
        back: list[Server] = []
        registry = slot_of("{registry}")

        async def strike(_: Pods) -> Pods:
            if back:
                # It has to follow: then it can take over in its turn.
                await asyncio.to_thread(servers.settle_again, back.pop())
            primary = await asyncio.to_thread(servers.owner_of, registry)
            primary.kill()
            killed.append(primary)
            await asyncio.to_thread(until, lambda: servers.owner_of(registry) is not primary)
            return []

        async def heal() -> None:
            if killed:
                back.append(killed.pop())
                await _start(back[-1])

        yield Fault(("--redis", servers.url), strike, heal, PASSING_S)


@asynccontextmanager
async def emptied() -> AsyncIterator[Fault]:
    with one_server() as server:

        async def strike(_: Pods) -> Pods:
            server.do("FLUSHALL")
            return []

        yield Fault(("--redis", _url(server.port)), strike, _nothing, PASSING_S)


@asynccontextmanager
async def stopped() -> AsyncIterator[Fault]:
    """Killed, and for a minute nobody listens on its port; then it is empty."""
    with one_server() as server:

        async def strike(pods: Pods) -> Pods:
            server.kill()
            return pods

        yield Fault(("--redis", _url(server.port)), strike, lambda: _start(server), STOPPED_S)


@asynccontextmanager
async def old_data() -> AsyncIterator[Fault]:
    """Killed, and back with a copy from before: the first from before anybody was there."""
    with one_server() as server:

        async def save() -> None:
            server.do("SAVE")

        async def strike(pods: Pods) -> Pods:
            server.kill()
            return pods

        async def heal() -> None:
            await _start(server)
            await save()

        yield Fault(("--redis", _url(server.port)), strike, heal, OLD_S, ready=save)


@asynccontextmanager
async def restarted() -> AsyncIterator[Fault]:
    """Killed, and back before most have noticed, with a copy in which all leases have run out: a dozen times, for
    chat pods renew theirs at once, and what others believe before they have is a matter of a tenth of a second."""
    with one_server() as server:
        saved_at = 0.0

        async def save() -> None:
            nonlocal saved_at
            server.do("SAVE")
            saved_at = time.monotonic()

        async def strike(_: Pods) -> Pods:
            await asyncio.sleep(saved_at + RAN_OUT_S - time.monotonic())
            for _ in range(BLINKS):
                await asyncio.sleep(BLINK_EVERY_S)
                server.kill()
                await _start(server)
            return []

        yield Fault(("--redis", _url(server.port)), strike, save, PASSING_S, ready=save)


@asynccontextmanager
async def full() -> AsyncIterator[Fault]:
    """No memory left, and nothing may be thrown away; then there is room, in the same process."""
    with one_server(maxmemory_policy="noeviction") as server:

        async def strike(pods: Pods) -> Pods:
            server.do("CONFIG", "SET", "maxmemory", 1)
            return pods

        async def heal() -> None:
            server.do("CONFIG", "SET", "maxmemory", 0)

        yield Fault(("--redis", _url(server.port)), strike, heal, FULL_S)


@asynccontextmanager
async def slow() -> AsyncIterator[Fault]:
    """Every answer comes 30 ms late."""
    with one_server() as server:
        async with proxy_to(server.port) as wire:

            async def strike(_: Pods) -> Pods:
                wire.delay_s = DELAY_S
                return []

            async def heal() -> None:
                wire.delay_s = 0.0

            yield Fault(("--redis", _url(wire.port)), strike, heal, SLOW_S)


@asynccontextmanager
async def split() -> AsyncIterator[Fault]:
    """One chat pod and the API pods do not reach it; the other chat pods, the worker and the operator do."""
    with one_server() as server:
        async with proxy_to(server.port) as wire:

            async def strike(pods: Pods) -> Pods:
                chat = next(pod for pod in pods if pod["kind"] == "chat")
                away = [chat, *(pod for pod in pods if pod["kind"] == "api")]
                wire.split([pod["pid"] for pod in away])
                return away

            async def heal() -> None:
                wire.join()

            yield Fault(("--redis", _url(wire.port)), strike, heal, SPLIT_S)


FAULTS: dict[str, Callable[[], AbstractAsyncContextManager[Fault]]] = {
    "redis-failover": failover,
    "redis-cluster-failover": cluster_failover,
    "redis-emptied": emptied,
    "redis-stopped": stopped,
    "redis-old-data": old_data,
    "redis-restarted": restarted,
    "redis-full": full,
    "redis-slow": slow,
    "redis-split": split,
}


def _url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


async def _start(server: Server) -> None:
    server.start()
    await asyncio.to_thread(until, server.answers)
