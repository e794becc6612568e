"""Passwords: slow to guess, quick to refuse too many at once, and silent about who exists."""

import asyncio
import statistics
import time

import pytest

from apipod.passwords import MEMORY_KIB, PASSES, Passwords, check_password
from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Limits


@pytest.fixture
def passwords():
    made = Passwords(threads=2)
    yield made
    made.close()


async def test_a_hash_is_argon2id_with_the_parameters_and_verifies(passwords):
    stored = await passwords.hash("correct horse")
    assert stored.startswith(f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct house")
    assert not passwords.outdated(stored)


async def test_the_same_characters_typed_differently_are_the_same_password(passwords):
    stored = await passwords.hash("cafe\u0301 au lait")
    assert await passwords.verify(stored, "caf\u00e9 au lait")


async def test_a_hash_of_other_parameters_verifies_and_is_outdated(passwords):
    weak = Passwords(memory_kib=64, passes=1)
    stored = await weak.hash("correct horse")
    weak.close()
    assert await passwords.verify(stored, "correct horse")
    assert passwords.outdated(stored)


async def test_nobody_has_no_password_and_takes_as_long(passwords):
    passwords.prepare()
    stored = await passwords.hash("correct horse")

    async def cpu_of(hash_or_none):
        times = []
        for _ in range(5):
            began = time.perf_counter()
            assert not await passwords.verify(hash_or_none, "wrong wrong")
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    nobody, somebody = await cpu_of(None), await cpu_of(stored)
    assert 0.4 < nobody / somebody < 2.5
    assert not await passwords.verify("", "anything at all")


async def test_the_loop_runs_while_hashes_do(passwords):
    hashing = asyncio.gather(*(passwords.hash("correct horse") for _ in range(6)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10


async def test_too_many_waiting_are_told_to_come_back(passwords):
    results = await asyncio.gather(
        *(passwords.verify("$argon2id$bad", "x") for _ in range(300)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, ChatError)]
    assert refused and all(error.code is Code.BUSY and error.retry_after_s for error in refused)


@pytest.mark.parametrize(("password", "limit"), [("short", 8), ("x" * 257, 256)])
def test_length_is_the_rule_and_is_named(password, limit):
    with pytest.raises(ChatError) as caught:
        check_password(password, Limits())
    assert (caught.value.field, caught.value.limit) == ("password", limit)
