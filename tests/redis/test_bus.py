"""The bus: who gets what, in which order, and what a reader is told when something may be missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from support.bus_reader import Pod, event, pods
from support.valkey import Valkey, eventually, redis_client

from chatkernel import bus as bus_module
from chatkernel.bus import (
    TRIM_BYTES,
    BlocksChanged,
    Bus,
    ChannelFrame,
    Envelope,
    EventEnvelope,
    GapReason,
    Poke,
    Post,
    PresenceChange,
    Revoked,
    UserFrame,
)
from chatkernel.bus_entries import ENTRY_MAX_BYTES
from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.routes import Routes


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a vanished stream more often than in real life."""
    monkeypatch.setattr(bus_module, "BLOCK_MS", 40)


ONE_OF_EACH: list[Envelope] = [
    EventEnvelope("c", 7, b'{"type":"event"}', True),
    ChannelFrame("c", b"\x00\xff"),
    UserFrame(["u1", "u2"], b"{}"),
    Revoked("u1", ["d1"]),
    Poke(["c", "d"]),
    PresenceChange(b"{}", "u1", ["c"], ["u2"]),
    BlocksChanged(["u1", "u2"]),
]


@pytest.mark.usefixtures("quick")
async def test_every_kind_of_envelope_arrives_as_it_was_sent(redis: Redis, keys: Keys) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(redis, keys, Routes(redis, keys, ""), "")
        assert await sender.publish([Post(envelope, ("c",)) for envelope in ONE_OF_EACH]) == 1
        await a.until(lambda: len(a.got) == len(ONE_OF_EACH))
        assert a.got == ONE_OF_EACH
        assert a.gaps == []


async def test_a_post_goes_once_to_each_pod_of_any_of_its_addresses_and_not_to_its_sender(
    redis: Redis, keys: Keys
) -> None:
    a, b, c = (Pod(redis, keys, name) for name in "abc")
    for pod in (a, b, c):
        await pod.bus.open()
    await a.routes.add(channels=["c1", "c2"])
    await b.routes.add(channels=["c1"], users=["u1"])
    await c.routes.add(watched=["u1"])
    post = Post(Poke(["x"]), ("c1", "c2"), ("u1",), ("u1",))
    assert await a.bus.publish([post, event("c2", 1), event("nobody", 1)]) == 2
    counts = await execute(redis, [("XLEN", keys.stream(name)) for name in "abc"])
    assert counts == [1, 2, 2]


@pytest.mark.usefixtures("quick")
async def test_what_is_published_from_one_pod_arrives_in_order_however_many_publish_at_once(
    redis: Redis, keys: Keys
) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(redis, keys, Routes(redis, keys, "b"), "b")
        writes = await asyncio.gather(*[sender.publish([event("c", seq)]) for seq in range(500)])
        await a.until(lambda: len(a.got) == 500)
        assert [envelope.seq for envelope in a.got if isinstance(envelope, EventEnvelope)] == list(range(500))
        assert sum(writes) <= 3


async def test_nothing_published_after_routes_are_there_is_missed_though_reading_begins_later(
    redis: Redis, keys: Keys
) -> None:
    pod = Pod(redis, keys, "a")
    await pod.bus.open()
    await pod.routes.add(channels=["c"])
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    await sender.publish([event("c", 1)])
    stop = asyncio.Event()
    task = asyncio.create_task(pod.read(stop))
    await pod.until(lambda: len(pod.got) == 1)
    stop.set()
    await task


async def test_a_new_run_starts_at_the_end_of_what_an_earlier_one_left(redis: Redis, keys: Keys) -> None:
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    earlier = Pod(redis, keys, "a")
    await earlier.bus.open()
    await earlier.routes.add(channels=["c"])
    await sender.publish([event("c", 1)])
    async with pods(redis, keys, "a") as (later,):
        await sender.publish([event("c", 2)])
        await later.until(lambda: len(later.got) == 1)
        assert later.got == [EventEnvelope("c", 2, b"{}", False)]


async def test_a_dead_pod_costs_no_stream(redis: Redis, keys: Keys) -> None:
    routes = Routes(redis, keys, "dead")
    await routes.add(channels=["c"])
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    assert await sender.publish([event("c", 1)]) == 1
    assert await execute(redis, [("EXISTS", keys.stream("dead"))]) == [0]


async def test_large_batches_are_split_into_bounded_entries_and_stay_in_order(
    redis: Redis, keys: Keys
) -> None:
    unread = Pod(redis, keys, "b")
    await unread.bus.open()
    await unread.routes.add(channels=["c"])
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(redis, keys, Routes(redis, keys, ""), "")
        frame = b"x" * 20_000
        large = b"y" * (ENTRY_MAX_BYTES * 2)
        posts = [event("c", seq, large if seq == 5 else frame) for seq in range(300)]
        assert await sender.publish(posts) > 180
        await a.until(lambda: len(a.got) == 300)
        assert [envelope.seq for envelope in a.got if isinstance(envelope, EventEnvelope)] == list(range(300))
    entries = (await execute(redis, [("XRANGE", keys.stream("b"), "-", "+")]))[0]
    sizes = [len(fields[1]) for _, fields in entries]
    # One envelope is larger than the bound and goes alone.
    assert [size > ENTRY_MAX_BYTES for size in sizes].count(True) == 1


async def test_the_stream_is_bounded_and_a_reader_that_lagged_is_told(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "STREAM_ENTRIES_MAX", 400)
    pod = Pod(redis, keys, "a")
    await pod.bus.open()
    await pod.routes.add(channels=["c"])
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    for seq in range(1_000):
        await sender.publish([event("c", seq)])
    (length,) = await execute(redis, [("XLEN", keys.stream("a"))])
    assert 400 <= length <= 520
    stop = asyncio.Event()
    task = asyncio.create_task(pod.read(stop))
    await pod.until(lambda: len(pod.got) == length)
    assert pod.gaps == [GapReason.TRIMMED]
    await sender.publish([event("c", 1_000)])
    await pod.until(lambda: len(pod.got) == length + 1)
    assert pod.gaps == [GapReason.TRIMMED]
    stop.set()
    await task


@pytest.mark.usefixtures("quick")
async def test_a_reader_that_is_only_busy_is_told_of_no_gap(redis: Redis, keys: Keys) -> None:
    pod = Pod(redis, keys, "a")
    await pod.bus.open()
    await pod.routes.add(channels=["c"])
    sender = Bus(redis, keys, Routes(redis, keys, ""), "")
    for seq in range(600):
        await sender.publish([event("c", seq)])
    stop = asyncio.Event()
    task = asyncio.create_task(pod.read(stop))
    await pod.until(lambda: len(pod.got) == 600)
    assert pod.gaps == []
    stop.set()
    await task


@pytest.mark.usefixtures("quick")
async def test_an_emptied_redis_is_one_gap_and_by_then_routes_and_stream_are_back(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client, pods(client, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        own_valkey.flush()
        await a.until(lambda: a.gaps == [GapReason.VANISHED])
        sender = Bus(client, keys, Routes(client, keys, ""), "")
        assert await sender.publish([event("c", 1)]) == 1
        await a.until(lambda: len(a.got) == 1)
        assert a.gaps == [GapReason.VANISHED]


@pytest.mark.usefixtures("quick")
async def test_a_pod_that_is_wrongly_reaped_notices_and_gets_everything_again(
    redis: Redis, keys: Keys
) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender_routes = Routes(redis, keys, "")
        await sender_routes.reap("a")
        await a.until(lambda: a.gaps == [GapReason.VANISHED])
        await Bus(redis, keys, sender_routes, "").publish([event("c", 1)])
        await a.until(lambda: len(a.got) == 1)


@pytest.mark.usefixtures("quick")
async def test_a_killed_redis_is_a_gap_when_it_is_back_and_not_before(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client, pods(client, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(client, keys, Routes(client, keys, ""), "")
        own_valkey.kill()
        with pytest.raises(ChatError) as caught:
            await sender.publish([event("c", 1)])
        assert caught.value.code is Code.REDIS_UNAVAILABLE
        assert a.gaps == []
        own_valkey.start()
        await a.until(lambda: bool(a.gaps))
        assert a.gaps == [GapReason.VANISHED]
        await sender.publish([event("c", 2)])
        await a.until(lambda: len(a.got) == 1)


@pytest.mark.slow
async def test_a_frozen_redis_is_a_gap_when_it_thaws_and_publishers_fail_at_one_deadline(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client, pods(client, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(client, keys, Routes(client, keys, ""), "")
        own_valkey.freeze()
        started = asyncio.get_running_loop().time()
        calls = [asyncio.create_task(sender.publish([event("c", seq)])) for seq in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, ChatError) for result in results)
        assert asyncio.get_running_loop().time() - started < 3.5
        # The reader's own deadline is a little later than the publishers'.
        await asyncio.sleep(0.7)
        own_valkey.thaw()
        await a.until(lambda: a.gaps == [GapReason.RECONNECTED])
        a.got.clear()

        async def published() -> bool:
            return await sender.publish([event("c", 1_000)]) == 1

        await eventually(published)
        await a.until(lambda: EventEnvelope("c", 1_000, b"{}", False) in a.got)


async def test_an_entry_that_cannot_be_read_is_a_gap_and_reading_goes_on(redis: Redis, keys: Keys) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        await execute(redis, [("XADD", keys.stream("a"), "*", "e", b"\xc1")])
        await a.until(lambda: a.gaps == [GapReason.UNREADABLE])
        await Bus(redis, keys, Routes(redis, keys, ""), "").publish([event("c", 1)])
        await a.until(lambda: len(a.got) == 1)


async def test_cost_is_flat_in_the_number_of_pods_without_a_member(redis: Redis, keys: Keys) -> None:
    writes: list[int] = []
    for count in (2, 32):
        some_pods: list[Any] = [Pod(redis, keys, f"{count}-{n}") for n in range(count)]
        for pod in some_pods:
            await pod.bus.open()
            await pod.routes.add(channels=[f"other-{pod.name}"])
        await some_pods[0].routes.add(channels=[f"c{count}"])
        await some_pods[1].routes.add(channels=[f"c{count}"])
        writes.append(await some_pods[0].bus.publish([event(f"c{count}", 1)]))
    assert writes == [1, 1]


@pytest.mark.usefixtures("quick")
async def test_what_its_reader_has_passed_is_taken_off_a_stream_and_what_it_has_not_stays(
    redis: Redis, keys: Keys
) -> None:
    async def length() -> int:
        (found,) = await execute(redis, [("XLEN", keys.stream("a"))])
        return int(found)

    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(redis, keys, Routes(redis, keys, ""), "")
        longest = 0
        for seq in range(1_500):
            await sender.publish([event("c", seq, b"x" * 50)])
            longest = max(longest, await length() if seq % 50 == 0 else 0)
        await a.until(lambda: len(a.got) == 1_500)
        # What is kept is within the last node of the stream, which is not taken apart.
        await eventually(lambda: _is(length, 100))
        assert longest < 600
        assert a.gaps == []
    unread = Pod(redis, keys, "b")
    await unread.bus.open()
    await unread.routes.add(channels=["d"])
    for seq in range(300):
        await sender.publish([event("d", seq)])
    assert await execute(redis, [("XLEN", keys.stream("b"))]) == [301]


async def _is(number: Callable[[], Awaitable[int]], at_most: int) -> bool:
    return await number() <= at_most


@pytest.mark.usefixtures("quick")
async def test_large_entries_that_were_passed_do_not_wait_for_many_others(redis: Redis, keys: Keys) -> None:
    async with pods(redis, keys, "a") as (a,):
        await a.routes.add(channels=["c"])
        sender = Bus(redis, keys, Routes(redis, keys, ""), "")
        for seq in range(60):
            await sender.publish([event("c", seq, b"x" * 60_000)])
            await a.until(lambda seq=seq: len(a.got) == seq + 1)  # type: ignore[misc]
        await sender.publish([event("c", 60)])
        await a.until(lambda: len(a.got) == 61)
        (length,) = await execute(redis, [("XLEN", keys.stream("a"))])
        assert length <= 2 * TRIM_BYTES // 60_000


async def test_kinds_that_only_newer_pods_know_are_passed_over(redis: Redis, keys: Keys) -> None:
    """While a rollout is under way; what is beside them in the entry, and after it, is heard."""
    async with pods(redis, keys, "a") as (a,):
        envelopes = [EventEnvelope("c", 1, b"{}", False), [99, "new"], EventEnvelope("c", 2, b"{}", False)]
        await execute(redis, [("XADD", keys.stream("a"), "*", "e", msgspec.msgpack.encode(envelopes))])
        await a.until(lambda: len(a.got) == 2)
        assert a.got == [envelopes[0], envelopes[2]] and a.gaps == []
