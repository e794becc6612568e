"""What Redis does to us: full, slow, cut off, emptied, back with old data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.bus_reader import event, pods, sender_of
from support.proxy import proxy_to
from support.redis_servers import Server, one_server
from support.redis_usage import use_everything
from support.valkey import eventually, redis_client

from chatkernel import bus as bus_module
from chatkernel.bus import EventEnvelope, GapReason
from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.presence import PresenceStore
from chatkernel.redis_client import execute
from chatkernel.registry import PodEntry, PodState, Registry
from chatkernel.settings import PresenceSettings

SLOW_S = 0.03
HOUR_MS = 3_600_000


@pytest.fixture
def server() -> Iterator[Server]:
    with one_server() as started:
        yield started


def url_of(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "BLOCK_MS", 40)


@pytest.mark.usefixtures("quick")
async def test_back_with_old_data_it_is_a_gap_and_what_comes_then_is_heard(
    server: Server, keys: Keys
) -> None:
    """The ids of a stream are by the clock of its server: a replica's, or that of a moved host, may be behind."""
    async with redis_client(url_of(server.port)) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["old"])
        server.do("SAVE")
        await a.routes.add(channels=["new"])
        ahead = f"{int(time.time() * 1000) + HOUR_MS}-0"
        entry = bus_module._encoder.encode([EventEnvelope("new", 1, b"{}", False)])
        await execute(redis, [("XADD", keys.stream("a"), ahead, "e", entry)])
        await a.until(lambda: len(a.got) == 1)
        server.kill()
        server.start()
        await a.until(lambda: a.gaps == [GapReason.RECONNECTED])
        # By then what was written after the copy is there again.
        assert await a.routes.resolve(["old", "new"]) == [{"a"}, {"a"}]
        await sender_of(redis, keys).publish([event("new", 2)])
        await a.until(lambda: len(a.got) == 2)


@pytest.mark.usefixtures("quick")
async def test_full_memory_refuses_writes_and_what_rests_on_them_and_the_bus_is_read(
    server: Server, keys: Keys
) -> None:
    async with redis_client(url_of(server.port)) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        registry, sender = Registry(redis, keys), sender_of(redis, keys)
        presence = PresenceStore(redis, keys, PresenceSettings())
        entry = PodEntry("a", "1", "ws://a", "l", "r", PodState.READY, 0, 9, 1)
        await registry.renew(entry, 60.0)
        await sender.publish([event("c", 1)])
        await a.until(lambda: len(a.got) == 1)
        server.do("CONFIG", "SET", "maxmemory", 1)
        for call in (
            sender.publish([event("c", 2)]),
            a.routes.add(channels=["d"]),
            registry.renew(entry, 60.0),
        ):
            with pytest.raises(ChatError) as caught:
                await call
            assert caught.value.code is Code.REDIS_UNAVAILABLE
        # Leases that nobody can renew say nothing: they are not read, either.
        for read in (registry.snapshot(), presence.states(["u"]), presence.sweep(64)):
            with pytest.raises(ChatError):
                await read
        # Its reader still makes room: taking off what was read needs no memory.
        assert server.do("XTRIM", keys.stream("a"), "MINID", "~", "0") == 0
        server.do("CONFIG", "SET", "maxmemory", 0)
        await sender.publish([event("c", 3)])
        await a.until(lambda: len(a.got) == 2)
        assert a.gaps == []
        assert [found.name for found in (await registry.snapshot()).entries] == ["a"]

        async def written() -> bool:
            return await a.routes.resolve(["d"]) == [{"a"}]

        await eventually(written)


async def test_thirty_milliseconds_on_every_answer_cost_no_call_and_no_order(
    server: Server, keys: Keys
) -> None:
    async with (
        proxy_to(server.port, SLOW_S) as slow,
        redis_client(url_of(slow.port)) as redis,
        pods(redis, keys, "a") as (a,),
    ):
        await use_everything(redis, Keys("test", "another"))
        await a.routes.add(channels=["c"])
        sender = sender_of(redis, keys)
        await asyncio.gather(*[sender.publish([event("c", seq)]) for seq in range(1_000)])
        await a.until(lambda: len(a.got) == 1_000)
        assert [found.seq for found in a.got if isinstance(found, EventEnvelope)] == list(range(1_000))
        assert a.gaps == []
        # Two connections are enough for any number of callers.
        assert slow.connections == 2


@pytest.mark.usefixtures("quick")
async def test_connections_that_are_cut_again_and_again_are_gaps_and_nothing_worse(
    server: Server, keys: Keys
) -> None:
    async with (
        proxy_to(server.port) as wire,
        redis_client(url_of(wire.port)) as redis,
        redis_client(url_of(server.port)) as direct,
        pods(redis, keys, "a") as (a,),
    ):
        await a.routes.add(channels=["c"])
        sender = sender_of(direct, keys)
        for cut in range(5):
            wire.cut()
            assert await sender.publish([event("c", cut)]) == 1
            await a.until(lambda cut=cut: len(a.gaps) == cut + 1 and len(a.got) == cut + 1)  # type: ignore[misc]
        assert a.gaps == [GapReason.RECONNECTED] * 5
        wire.cut()
        with suppress(ChatError):
            await execute(redis, [("PING",)])
        assert await execute(redis, [("PING",)]) == [b"PONG"]


@pytest.mark.usefixtures("quick")
async def test_emptied_under_way_nothing_that_is_kept_there_is_missed(server: Server, keys: Keys) -> None:
    async with redis_client(url_of(server.port)) as redis, pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        server.do("FLUSHALL")
        await a.until(lambda: a.gaps == [GapReason.VANISHED])
        await use_everything(redis, Keys("test", "another"))
        await sender_of(redis, keys).publish([event("c", 1)])
        await a.until(lambda: len(a.got) == 1)
