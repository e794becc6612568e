from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from support.redis_servers import REDIS_7, VALKEY, cluster_servers, one_server, sentinels
from support.valkey import Valkey, fresh_keys, redis_client, valkey_server

from chatkernel.keys import Keys
from chatkernel.redis_client import Redis


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A server that tests share: they keep apart by their keys, and leave it running."""
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_7() -> Iterator[str]:
    if REDIS_7 is None:
        pytest.skip("no Redis 7 on this machine: Debian's package redis-tools has it")
    with one_server(REDIS_7) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def under_sentinels() -> Iterator[str]:
    with sentinels(REDIS_7 or VALKEY) as servers:
        yield servers.url


@pytest.fixture(scope="session")
def six_nodes() -> Iterator[str]:
    with cluster_servers(VALKEY) as servers:
        yield servers.url


_OF_SEVERAL_SERVERS = [
    pytest.param(each, marks=pytest.mark.stores) for each in ("under_sentinels", "six_nodes")
]


@pytest.fixture(params=["valkey", "redis_7", *_OF_SEVERAL_SERVERS])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Whatever is true of Redis is true of each of these; tests share them and keep apart by their keys."""
    found = request.getfixturevalue(request.param)
    return found.url if isinstance(found, Valkey) else str(found)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return fresh_keys("redis")
