"""The seam to Redis: batches, scripts by digest, errors translated, and life after an outage."""

from __future__ import annotations

import asyncio
import time

import pytest
from support.valkey import Valkey, answers, eventually, redis_client

from chatkernel.errors import ChatError, Code
from chatkernel.keys import Keys
from chatkernel.redis_client import SOCKET_TIMEOUT_S, Redis, Script, execute, run_scripts

RATE = Script("rate_limit")


async def test_a_batch_answers_each_command_in_order(redis: Redis, keys: Keys) -> None:
    key = keys.limit("batch")
    assert await execute(redis, [("SET", key, 1), ("INCR", key), ("GET", key), ("GET", key + "x")]) == [
        b"OK",
        2,
        b"2",
        None,
    ]


async def test_a_refused_command_is_an_error_and_the_connection_stays_usable(
    redis: Redis, keys: Keys
) -> None:
    key = keys.limit("refused")
    with pytest.raises(ChatError) as caught:
        await execute(redis, [("SET", key, "text"), ("INCR", key), ("SET", key, "later")])
    assert caught.value.code is Code.REDIS_UNAVAILABLE
    assert caught.value.__cause__ is not None
    assert await execute(redis, [("GET", key)]) == [b"later"]


async def test_scripts_run_by_digest_and_come_back_after_redis_forgot_them(redis: Redis, keys: Keys) -> None:
    calls = [RATE.call((keys.limit(name),), (1.0, 1, 1)) for name in ("a", "b")]
    assert await run_scripts(redis, calls) == [0, 0]
    await execute(redis, [("SCRIPT", "FLUSH")])
    waits = await run_scripts(redis, calls)
    assert all(0 < wait <= 1_000_000 for wait in waits)
    # Refused, were it not there again.
    await execute(redis, [("EVALSHA", RATE.digest, *calls[0].arguments)])


async def test_a_missing_script_in_a_batch_runs_once_and_the_others_are_not_repeated(
    redis: Redis, keys: Keys
) -> None:
    await execute(redis, [("SCRIPT", "FLUSH")])
    call = RATE.call((keys.limit("once"),), (1.0, 2, 1))
    # Three hits of a burst of two: had any run twice, more than one would have to wait.
    waits = await run_scripts(redis, [call, call, call])
    assert [wait > 0 for wait in waits] == [False, False, True]


async def test_redis_away_is_one_catalogued_error(own_valkey: Valkey) -> None:
    async with redis_client(own_valkey.url) as client:
        await execute(client, [("PING",)])
        own_valkey.kill()
        with pytest.raises(ChatError) as caught:
            await execute(client, [("PING",)])
        assert caught.value.code is Code.REDIS_UNAVAILABLE
        own_valkey.start()
        assert await execute(client, [("PING",)]) == [b"PONG"]


async def test_a_frozen_redis_costs_one_time_out_and_then_answers_again(own_valkey: Valkey) -> None:
    async with redis_client(own_valkey.url) as client:
        await execute(client, [("SET", "k", "v")])
        own_valkey.freeze()
        started = asyncio.get_running_loop().time()
        results = await asyncio.gather(
            *[execute(client, [("GET", "k")]) for _ in range(100)], return_exceptions=True
        )
        assert all(isinstance(result, ChatError) for result in results)
        assert asyncio.get_running_loop().time() - started < 3.0
        # Who comes later does not wait as long: not once, and not for each call in turn.
        for _ in range(5):
            with pytest.raises(ChatError):
                await execute(client, [("GET", "k")])
        assert asyncio.get_running_loop().time() - started < 3.0
        own_valkey.thaw()
        await eventually(lambda: answers(client), 1.0)
        # Late answers of the abandoned calls must never be taken for those of later ones.
        assert await execute(client, [("ECHO", "fresh")]) == [b"fresh"]


async def test_a_redis_that_hangs_from_the_start_costs_one_time_out_and_then_answers(
    own_valkey: Valkey,
) -> None:
    async with redis_client(own_valkey.url) as client:
        own_valkey.freeze()
        started = asyncio.get_running_loop().time()
        for _ in range(5):
            with pytest.raises(ChatError):
                await execute(client, [("PING",)])
        assert asyncio.get_running_loop().time() - started < 3.0
        own_valkey.thaw()
        await eventually(lambda: answers(client), 3.0)


async def test_a_redis_that_hangs_and_then_dies_is_found_when_it_is_back(own_valkey: Valkey) -> None:
    async with redis_client(own_valkey.url) as client:
        await execute(client, [("PING",)])
        own_valkey.freeze()
        with pytest.raises(ChatError):
            await execute(client, [("PING",)])
        own_valkey.kill()
        own_valkey.start()
        await eventually(lambda: answers(client), 3.0)


async def test_a_cancelled_call_leaves_no_answer_behind_for_the_next(redis: Redis) -> None:
    for _ in range(6):
        task = asyncio.create_task(execute(redis, [("BLPOP", "nothing-here", "0.05")]))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.wait([task])
        assert await execute(redis, [("ECHO", "mine")]) == [b"mine"]


async def test_closing_a_client_that_is_connecting_is_an_error_of_redis_and_not_a_cancellation(
    own_valkey: Valkey,
) -> None:
    own_valkey.freeze()
    async with redis_client(own_valkey.url) as client:
        calls = [asyncio.create_task(execute(client, [("PING",)])) for _ in range(3)]
        await asyncio.sleep(0.05)
        calls[0].cancel()
        await client.aclose()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert all(isinstance(result, ChatError) for result in results[1:])


async def test_a_process_that_stood_still_itself_does_not_blame_redis(redis: Redis) -> None:
    await execute(redis, [("PING",)])
    call = asyncio.create_task(execute(redis, [("ECHO", "there")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    time.sleep(SOCKET_TIMEOUT_S + 0.1)
    assert await call == [b"there"]


async def test_an_impatient_caller_gives_up_alone(own_valkey: Valkey) -> None:
    async with redis_client(own_valkey.url) as client:
        await execute(client, [("PING",)])
        own_valkey.freeze()
        patient = asyncio.create_task(execute(client, [("ECHO", "patient")]))
        with pytest.raises(ChatError):
            await execute(client, [("PING",)], 0.05)
        own_valkey.thaw()
        assert await patient == [b"patient"]
