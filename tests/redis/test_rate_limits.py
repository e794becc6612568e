"""Rate limits: shared, exact, and never wide open when Redis is away."""

from __future__ import annotations

import asyncio

import pytest
from support.valkey import Valkey, redis_client

from chatkernel import ratelimit
from chatkernel.keys import Keys
from chatkernel.ratelimit import RETRY_AFTER_FAILURE_S, RateLimiter
from chatkernel.redis_client import Redis, execute


async def test_a_burst_is_allowed_and_then_the_wait_is_told(redis: Redis, keys: Keys) -> None:
    limiter = RateLimiter(redis, keys)
    assert [await limiter.hit("n", 0.1, 3) for _ in range(3)] == [0, 0, 0]
    wait = await limiter.hit("n", 0.1, 3)
    assert 9 < wait <= 10
    assert await limiter.hit("another", 0.1, 3) == 0


async def test_a_refused_hit_takes_nothing(redis: Redis, keys: Keys) -> None:
    limiter = RateLimiter(redis, keys)
    await limiter.hit("n", 0.1, 1)
    waits = [await limiter.hit("n", 0.1, 1) for _ in range(3)]
    assert waits == sorted(waits, reverse=True)


async def test_waiting_as_told_is_enough(redis: Redis, keys: Keys) -> None:
    limiter = RateLimiter(redis, keys)
    await limiter.hit("n", 50.0, 1)
    await asyncio.sleep(await limiter.hit("n", 50.0, 1) + 0.001)
    assert await limiter.hit("n", 50.0, 1) == 0


async def test_costs_add_up_and_one_above_the_burst_is_the_burst(redis: Redis, keys: Keys) -> None:
    limiter = RateLimiter(redis, keys)
    assert await limiter.hit("n", 0.1, 5, cost=3) == 0
    assert await limiter.hit("n", 0.1, 5, cost=3) > 0
    assert await limiter.hit("n", 0.1, 5, cost=2) == 0
    assert await limiter.hit("large", 0.1, 5, cost=50) == 0
    assert await limiter.hit("large", 0.1, 5) > 0


async def test_what_is_given_back_can_be_taken_again_and_never_saved_up(
    redis: Redis, keys: Keys, own_valkey: Valkey
) -> None:
    async with redis_client(own_valkey.url) as away:
        own_valkey.kill()
        for limiter in (RateLimiter(redis, keys), RateLimiter(away, keys)):
            for _ in range(5):
                assert await limiter.hit("n", 0.1, 2, cost=-1) == 0
            waits = [await limiter.hit("n", 0.1, 2) for _ in range(3)]
            assert [wait > 0 for wait in waits] == [False, False, True]
            assert await limiter.hit("n", 0.1, 2, cost=-1) == 0
            assert await limiter.hit("n", 0.1, 2) == 0


async def test_pods_share_a_limit_however_many_hit_it_at_once(redis: Redis, keys: Keys) -> None:
    pods = [RateLimiter(redis, keys) for _ in range(4)]
    waits = await asyncio.gather(*[pods[n % 4].hit("n", 0.1, 25) for n in range(100)])
    assert sum(wait == 0 for wait in waits) == 25


async def test_with_redis_away_each_process_limits_by_itself_and_nobody_waits_for_time_outs(
    own_valkey: Valkey, keys: Keys
) -> None:
    clock = [100.0]
    async with redis_client(own_valkey.url) as client:
        limiter = RateLimiter(client, keys, lambda: clock[0])
        own_valkey.kill()
        assert [await limiter.hit("n", 1.0, 3) > 0 for _ in range(5)] == [False] * 3 + [True] * 2
        clock[0] += 0.5
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*[limiter.hit(f"n{n}", 1.0, 1) for n in range(100)])
        assert asyncio.get_running_loop().time() - started < 0.5
        own_valkey.start()
        clock[0] += RETRY_AFTER_FAILURE_S
        assert [await limiter.hit("n", 0.01, 2) > 0 for _ in range(3)] == [False, False, True]


async def test_local_limits_stay_bounded_and_keep_the_busy_ones(
    own_valkey: Valkey, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "LOCAL_NAMES_MAX", 400)
    async with redis_client(own_valkey.url) as client:
        limiter = RateLimiter(client, keys, lambda: 100.0)
        own_valkey.kill()
        await limiter.hit("first", 1.0, 1)
        for start in range(0, 1_000, 100):
            await asyncio.gather(*[limiter.hit(f"n{n}", 1.0, 1) for n in range(start, start + 100)])
        assert await limiter.hit("n999", 1.0, 1) > 0
        assert len(limiter._arrivals) <= 400


async def test_a_limit_kept_by_a_clock_that_was_ahead_holds_nobody_longer_than_a_burst(
    redis: Redis, keys: Keys
) -> None:
    """The clock of the server was set back, or another took its place."""
    limiter = RateLimiter(redis, keys)
    ((seconds, _),) = await execute(redis, [("TIME",)])
    ahead_us = (int(seconds) + 3_600) * 1_000_000
    await execute(redis, [("SET", keys.limit("n"), ahead_us, "PX", 3_600_000)])
    assert await limiter.hit("n", 10.0, 5) <= 0.1
    await asyncio.sleep(0.11)
    assert await limiter.hit("n", 10.0, 5) == 0
