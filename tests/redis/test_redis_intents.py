"""Intents: noted before, gone after, and there for whoever looks after a dead pod."""

from __future__ import annotations

import pytest
from support.valkey import Valkey, redis_client

from chatkernel.errors import ChatError, Code
from chatkernel.intents import Intents
from chatkernel.keys import Keys
from chatkernel.redis_client import Redis


async def test_what_was_begun_and_not_done_is_there_to_take_until_cleared(redis: Redis, keys: Keys) -> None:
    pod, reaper = Intents(redis, keys, "a"), Intents(redis, keys, "")
    await pod.begin(["c1", "c2", "c3"])
    await pod.begin(["c2"])
    await pod.done(["c2"])
    assert await reaper.take("a") == ["c1", "c3"]
    assert await reaper.take("a") == ["c1", "c3"]
    await reaper.clear("a", ["c1", "c3"])
    assert await reaper.take("a") == []


async def test_owners_are_known_until_forgotten_and_again_when_they_note_something(
    redis: Redis, keys: Keys
) -> None:
    intents = Intents(redis, keys, "a")
    await intents.begin([])
    assert await intents.owners() == []
    await intents.begin(["c"])
    assert await intents.owners() == ["a"]
    await intents.forget("a")
    assert await intents.owners() == []
    await intents.begin(["c"])
    assert await intents.owners() == ["a"]


async def test_redis_away_is_said(own_valkey: Valkey, keys: Keys) -> None:
    async with redis_client(own_valkey.url) as client:
        intents = Intents(client, keys, "a")
        own_valkey.kill()
        for call in (intents.begin(["c"]), intents.done(["c"]), intents.take("a")):
            with pytest.raises(ChatError) as caught:
                await call
            assert caught.value.code is Code.REDIS_UNAVAILABLE
