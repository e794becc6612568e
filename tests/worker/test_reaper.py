"""What becomes of a dead pod, and that no living one is taken for dead."""

from __future__ import annotations

import asyncio

import pytest
from support.bus_pod import BusPod
from support.valkey import Valkey, answers, eventually, redis_client

from chatkernel.bus import Bus, Poke
from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis, execute
from chatkernel.registry import PodEntry, Registry, RenewResult
from chatkernel.routes import Routes
from worker.reaper import Reaper

LEASE_S = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def reaper_of(redis: Redis, keys: Keys, clock: Clock) -> Reaper:
    routes = Routes(redis, keys, "")
    return Reaper(
        Registry(redis, keys),
        routes,
        Intents(redis, keys, ""),
        Bus(redis, keys, routes, ""),
        lease_s=LEASE_S,
        monotonic=clock,
    )


async def look_twice(reaper: Reaper, clock: Clock) -> None:
    """As a worker does over the time of a lease."""
    await reaper.step()
    clock.now += LEASE_S
    await reaper.step()


async def test_channels_that_a_dead_pod_had_in_flight_are_poked_and_its_traces_go(
    redis: Redis, keys: Keys
) -> None:
    clock = Clock()
    dead, alive = BusPod(redis, keys, "dead"), BusPod(redis, keys, "alive")
    await dead.start("c1", "c2", lease_s=LEASE_S)
    await alive.start("c1", "c3")
    await dead.intents.begin(["c1", "c2", "c3"])
    await asyncio.sleep(LEASE_S + 0.01)
    reaper = reaper_of(redis, keys, clock)
    await look_twice(reaper, clock)
    assert await alive.received() == [Poke(["c1"]), Poke(["c3"])]
    assert await alive.routes.resolve(["c1", "c2", "c3"]) == [{"alive"}, set(), {"alive"}]
    assert await execute(redis, [("EXISTS", keys.stream("dead"), keys.intents("dead"))]) == [0]
    assert (reaper.reaped, reaper.poked) == (1, 3)
    # It is done once, and the entry stays for the operator to see.
    await look_twice(reaper, clock)
    assert reaper.reaped == 1
    assert [entry.name for entry in (await alive.registry.snapshot()).expired] == ["dead"]


async def test_an_expired_entry_that_nobody_removes_is_removed_after_a_grace(
    redis: Redis, keys: Keys
) -> None:
    clock = Clock()
    dead = BusPod(redis, keys, "dead")
    await dead.start(lease_s=LEASE_S)
    reaper = reaper_of(redis, keys, clock)
    await asyncio.sleep(LEASE_S * 4 + 0.02)
    await look_twice(reaper, clock)
    assert [entry.name for entry in (await dead.registry.snapshot()).expired] == ["dead"]
    clock.now += LEASE_S * 3
    await reaper.step()
    assert (await dead.registry.snapshot()).expired == []
    assert await dead.registry.departed() == []
    # If it was only cut off from Redis, it comes back with all that it has.
    assert await dead.renew(LEASE_S) == RenewResult(ok=True, was_missing=True)


async def test_pods_whose_leases_ran_out_while_redis_was_away_are_not_taken_for_dead(
    own_valkey: Valkey, keys: Keys
) -> None:
    clock = Clock()
    async with redis_client(own_valkey.url) as client:
        pod = BusPod(client, keys, "a")
        await pod.start("c", lease_s=LEASE_S)
        reaper = reaper_of(client, keys, clock)
        await reaper.step()
        # Frozen for long: the worker's own call fails, and then everything looks expired at once.
        own_valkey.freeze()
        clock.now += 20
        with pytest.raises(ChatError):
            await reaper.step()
        own_valkey.thaw()
        await eventually(lambda: answers(client))
        await reaper.step()
        assert (await pod.registry.snapshot()).expired != []
        assert await pod.renew(LEASE_S) == RenewResult(ok=True, was_missing=False)
        clock.now += LEASE_S
        await reaper.step()
        assert reaper.reaped == 0
        assert await pod.routes.resolve(["c"]) == [{"a"}]


async def test_a_worker_that_has_just_begun_watches_for_most_of_a_lease_first(
    redis: Redis, keys: Keys
) -> None:
    clock = Clock()
    pod = BusPod(redis, keys, "a")
    await pod.start(lease_s=LEASE_S)
    await asyncio.sleep(LEASE_S + 0.01)
    reaper = reaper_of(redis, keys, clock)
    await reaper.step()
    assert reaper.reaped == 0
    clock.now += LEASE_S / 2
    await pod.renew(LEASE_S)
    await reaper.step()
    clock.now += LEASE_S / 2
    await reaper.step()
    assert reaper.reaped == 0


async def test_what_the_operator_removed_is_cleared_away_at_once(redis: Redis, keys: Keys) -> None:
    gone, alive = BusPod(redis, keys, "gone"), BusPod(redis, keys, "alive")
    await gone.start("c")
    await alive.start("c")
    await gone.intents.begin(["c"])
    await gone.registry.remove("gone")
    reaper = reaper_of(redis, keys, Clock())
    await reaper.step()
    assert await alive.received() == [Poke(["c"])]
    assert await alive.routes.resolve(["c"]) == [{"alive"}]
    assert reaper.reaped == 1


async def test_a_newer_run_of_the_name_keeps_its_routes_while_the_older_ones_channels_are_poked(
    redis: Redis, keys: Keys
) -> None:
    older, other = BusPod(redis, keys, "a", "1", 1), BusPod(redis, keys, "b")
    await older.start("c")
    await older.intents.begin(["c"])
    await other.start("c")
    newer = BusPod(redis, keys, "a", "2", 2)
    await newer.start("c")
    reaper = reaper_of(redis, keys, Clock())
    await reaper.step()
    assert await other.received() == [Poke(["c"])]
    assert await other.routes.resolve(["c"]) == [{"a", "b"}]
    assert await other.registry.departed() == []


async def test_intents_of_the_older_run_go_and_those_of_the_newer_stay(redis: Redis, keys: Keys) -> None:
    older = BusPod(redis, keys, "a", "1", 1)
    await older.start("c")
    await older.intents.begin(["old"])
    while (began_at := now_ms()) <= max((await older.intents.noted("a")).values()):
        await asyncio.sleep(0.001)
    newer = BusPod(redis, keys, "a", "2", began_at)
    await newer.start("c")
    await newer.intents.begin(["new"])
    await reaper_of(redis, keys, Clock()).step()
    assert await newer.intents.take("a") == ["new"]


async def test_many_workers_at_once_do_no_harm(redis: Redis, keys: Keys) -> None:
    clock = Clock()
    alive = BusPod(redis, keys, "alive")
    await alive.start("c0", "c1", "c2")
    for number in range(3):
        dead = BusPod(redis, keys, f"dead{number}")
        await dead.start(f"c{number}", lease_s=LEASE_S)
        await dead.intents.begin([f"c{number}"])
    await asyncio.sleep(LEASE_S + 0.01)
    workers = [reaper_of(redis, keys, clock) for _ in range(4)]
    await asyncio.gather(*[worker.step() for worker in workers])
    clock.now += LEASE_S
    await asyncio.gather(*[worker.step() for worker in workers])
    pokes = {envelope.channel_ids[0] for envelope in await alive.received() if isinstance(envelope, Poke)}
    assert pokes == {"c0", "c1", "c2"}
    assert await alive.routes.resolve(["c0", "c1", "c2"]) == [{"alive"}] * 3
    assert await alive.registry.departed() == []


async def test_a_worker_that_died_in_the_middle_leaves_the_rest_to_the_next(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, alive = BusPod(redis, keys, "gone"), BusPod(redis, keys, "alive")
    await gone.start("c")
    await alive.start("c")
    await gone.intents.begin(["c"])
    await gone.registry.remove("gone")
    first = reaper_of(redis, keys, Clock())
    reap = asyncio.create_task(first.step())
    while not await alive.received():
        await asyncio.sleep(0)
    reap.cancel()
    await asyncio.wait([reap])
    await reaper_of(redis, keys, Clock()).step()
    assert Poke(["c"]) in await alive.received()
    assert await alive.routes.resolve(["c"]) == [{"alive"}]
    assert await alive.registry.departed() == []


async def test_a_pod_that_renews_just_before_it_would_be_removed_keeps_its_routes(
    redis: Redis, keys: Keys
) -> None:
    clock = Clock()
    pod = BusPod(redis, keys, "late")
    await pod.start("c", lease_s=LEASE_S)
    reaper = reaper_of(redis, keys, clock)
    await asyncio.sleep(LEASE_S * 4 + 0.02)
    await look_twice(reaper, clock)
    clock.now += LEASE_S * 3

    class RenewedMeanwhile(Registry):
        """The pod comes back after the snapshot was taken."""

        async def departed(self) -> list[PodEntry]:
            assert (await pod.renew(60.0)).ok
            await pod.routes.reassert()
            return await super().departed()

    reaper._registry = RenewedMeanwhile(redis, keys)
    await reaper.step()
    assert await pod.routes.resolve(["c"]) == [{"late"}]
