"""Routes: written once for many callers, right in any order, found again after Redis lost them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from support.valkey import Valkey, eventually, redis_client

from chatkernel.errors import ChatError
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.redis_link import Command
from chatkernel.routes import Routes


async def commands_processed(redis: Redis) -> int:
    (info,) = await execute(redis, [("INFO", "commandstats")])
    return sum(
        int(line.split(b"calls=")[1].split(b",")[0])
        for line in info.splitlines()
        if line.startswith((b"cmdstat_sadd", b"cmdstat_srem"))
    )


async def test_each_kind_of_route_resolves_to_the_pods_that_asked_for_it(redis: Redis, keys: Keys) -> None:
    a, b = Routes(redis, keys, "a"), Routes(redis, keys, "b")
    await a.add(channels=["c1", "c2"], users=["u1"])
    await b.add(channels=["c1"], watched=["u1"])
    assert await a.resolve(["c1", "c2", "c3"], ["u1"], ["u1"]) == [{"a", "b"}, {"a"}, set(), {"a"}, {"b"}]
    await a.remove(channels=["c1"])
    assert await a.resolve(["c1"]) == [{"b"}]
    assert await a.resolve([]) == []


async def test_five_hundred_sessions_at_once_are_a_few_round_trips(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client:
        routes = Routes(client, keys, "a")
        sent: list[int] = []
        call = client.call

        async def counted(commands: Sequence[Command], timeout_s: float, *, waiting: bool) -> list[Any]:
            sent.append(len(commands))
            return await call(commands, timeout_s, waiting=waiting)

        client.call = counted
        await asyncio.gather(*[routes.add(channels=[f"c{n}", "shared"], users=[f"u{n}"]) for n in range(500)])
        assert len(sent) <= 4
        assert await routes.resolve(["shared", "c499"]) == [{"a"}, {"a"}]


async def test_what_is_already_there_costs_nothing(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client:
        routes = Routes(client, keys, "a")
        await routes.add(channels=["c"])
        before = await commands_processed(client)
        await routes.add(channels=["c"])
        assert await commands_processed(client) == before


async def test_last_out_and_first_in_of_one_channel_end_as_the_last_call_wanted(
    redis: Redis, keys: Keys
) -> None:
    routes = Routes(redis, keys, "a")
    random = Random(7)
    pending: list[asyncio.Task[None]] = []
    for _ in range(300):
        change = routes.add if random.random() < 0.5 else routes.remove
        pending.append(asyncio.create_task(change(channels=[f"c{random.randrange(3)}"])))
        if random.random() < 0.3:
            await asyncio.sleep(0)
        if random.random() < 0.1:
            await asyncio.wait(pending)
    await asyncio.gather(*pending)
    for last in (routes.remove, routes.add, routes.remove, routes.add):
        await asyncio.gather(
            routes.add(channels=["c0", "c1", "c2"]),
            routes.remove(channels=["c0", "c1", "c2"]),
            last(channels=["c0", "c1", "c2"]),
        )
        wanted = {"a"} if last == routes.add else set()
        assert await routes.resolve(["c0", "c1", "c2"]) == [wanted] * 3


async def test_an_add_that_returned_is_in_redis_whatever_removals_were_under_way(
    redis: Redis, keys: Keys
) -> None:
    routes = Routes(redis, keys, "a")
    for _ in range(50):
        await routes.add(channels=["c"])
        removal = asyncio.create_task(routes.remove(channels=["c"]))
        await asyncio.sleep(0)
        await routes.add(channels=["c"])
        assert await routes.resolve(["c"]) == [{"a"}]
        await removal
        assert await routes.resolve(["c"]) == [{"a"}]


async def test_a_person_with_thousands_of_channels_is_written_whole(redis: Redis, keys: Keys) -> None:
    routes = Routes(redis, keys, "a")
    channels = [f"c{n}" for n in range(3_000)]
    await routes.add(channels=channels)
    assert all(pods == {"a"} for pods in await routes.resolve(channels))
    await routes.remove(channels=channels)
    assert not any(await routes.resolve(channels))
    assert await execute(redis, [("EXISTS", keys.pod_routes("a"))]) == [0]


async def test_reaping_leaves_nothing_of_the_dead_and_all_of_the_living(redis: Redis, keys: Keys) -> None:
    dead, alive = Routes(redis, keys, "dead"), Routes(redis, keys, "alive")
    await dead.add(channels=["c1", "c2"], users=["u"], watched=["w"])
    await alive.add(channels=["c1"])
    await execute(redis, [("XADD", keys.stream("dead"), "*", "e", "")])
    await asyncio.gather(alive.reap("dead"), Routes(redis, keys, "").reap("dead"))
    assert await alive.resolve(["c1", "c2"], ["u"], ["w"]) == [{"alive"}, set(), set(), set()]
    assert await execute(redis, [("EXISTS", keys.stream("dead"), keys.pod_routes("dead"))]) == [0]


async def test_reasserting_writes_what_is_wanted_and_clears_what_an_earlier_run_left(
    redis: Redis, keys: Keys
) -> None:
    earlier, later = Routes(redis, keys, "a"), Routes(redis, keys, "a")
    await earlier.add(channels=["old", "both"])
    await later.add(channels=["new", "both"])
    await later.reassert()
    assert await later.resolve(["old", "both", "new"]) == [set(), {"a"}, {"a"}]


async def test_routes_asked_for_while_redis_was_away_are_there_after_a_reassert(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        routes = Routes(client, keys, "a")
        await routes.add(channels=["kept", "left"])
        own_valkey.kill()
        with pytest.raises(ChatError):
            await routes.add(channels=["late"])
        with pytest.raises(ChatError):
            await routes.remove(channels=["left"])
        own_valkey.start()

        async def reasserted() -> bool:
            await routes.reassert()
            return True

        await eventually(reasserted)
        assert await routes.resolve(["kept", "late", "left"]) == [{"a"}, {"a"}, set()]


async def test_what_was_not_written_is_written_by_the_next_call_without_a_reassert(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client:
        routes = Routes(client, keys, "a")
        own_valkey.kill()
        with pytest.raises(ChatError):
            await routes.add(channels=["c1"])
        own_valkey.start()
        await routes.add(channels=["c2"])
        assert await routes.resolve(["c1", "c2"]) == [{"a"}, {"a"}]


async def test_what_could_not_be_written_is_written_once_redis_answers_and_nobody_calls(
    own_valkey: Valkey, keys: Keys
) -> None:
    async with redis_client(own_valkey.url) as client, redis_client(own_valkey.url) as look:
        routes = Routes(client, keys, "a")
        await routes.add(channels=["out"])
        own_valkey.freeze()
        for call in (routes.add(channels=["in"]), routes.remove(channels=["out"])):
            with pytest.raises(ChatError):
                await call
        own_valkey.thaw()

        async def written() -> bool:
            found = await execute(look, [("SMEMBERS", keys.route(f"c:{name}")) for name in ("in", "out")])
            return [set(pods) for pods in found] == [{b"a"}, set()]

        await eventually(written, 3.0)
        await routes.aclose()
