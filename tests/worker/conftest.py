from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.postgres import Postgres, fresh_database, postgres_server
from support.valkey import Valkey, fresh_keys, redis_client, valkey_server

from chatkernel.keys import Keys
from chatkernel.redis_client import Redis
from chatkernel.storage.open import Store, open_store


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with redis_client(valkey.url) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return fresh_keys("worker")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path}/chat.db")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@pytest.fixture(
    params=[
        "mongo",
        pytest.param("postgres", marks=pytest.mark.stores),
        pytest.param("split", marks=pytest.mark.stores),
        pytest.param("split-postgres", marks=pytest.mark.stores),
        "sqlite",
    ]
)
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    def postgres() -> str:
        server: Postgres = request.getfixturevalue("postgres")
        return server.url(fresh_database(server), timeout_s=30)

    def mongo() -> str:
        url: str = request.getfixturevalue("mongo_url")
        return url

    match request.param:
        case "mongo":
            return mongo()
        case "postgres":
            return postgres()
        case "split":
            return f"{mongo()} sqlite:///{tmp_path}/directory.db"
        case "split-postgres":
            return f"{mongo()} {postgres()}"
        case _:
            return f"sqlite:///{tmp_path}/any.db"


@pytest.fixture
async def any_store(any_url: str) -> AsyncIterator[Store]:
    """On each adapter."""
    opened = await open_store(any_url)
    await opened.ensure_schema()
    yield opened
    await opened.aclose()
