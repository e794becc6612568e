from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis
from support.valkey import Valkey, fresh_keys, redis_client, valkey_server

from chatkernel.keys import Keys


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A server that tests share: they keep apart by their keys, and leave it running."""
    with valkey_server() as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server of the test's own, to break."""
    with valkey_server() as server:
        yield server


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with redis_client(valkey.url) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return fresh_keys("redis")
