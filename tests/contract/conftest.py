"""The store under test, and servers for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from stores import EMPTIED, STORES, TEMPLATE
from support.postgres import Postgres, drop_database, fresh_database, postgres_server

from chatkernel.storage.open import Store, open_store
from chatkernel.storage.sql import SqlStore

EVERYDAY_ON_POSTGRES = {"test_devices", "test_insert", "test_people", "test_watermarks"}
"""Of the contract tests, what `make test` runs on PostgreSQL too. The others have the marker `stores` there, and all
have it on a store that is split in two."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        if "postgres" in item.callspec.params.values() and item.module.__name__ not in EVERYDAY_ON_POSTGRES:
            item.add_marker(pytest.mark.stores)
        if any(name in item.callspec.params.values() for name in ("split", "split-postgres")):
            item.add_marker(pytest.mark.stores)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that leave it whole. What it has written need not outlast its host."""
    with postgres_server(fsync="off") as server:
        server.sql(f"CREATE DATABASE {TEMPLATE}")
        subprocess.run(
            [sys.executable, "-m", "chatoperator.schemajob"],
            env={**os.environ, "CHAT_STORE_URL": server.url(TEMPLATE)},
            check=True,
        )
        server.sql(f"CREATE DATABASE {EMPTIED} TEMPLATE {TEMPLATE}")
        yield server


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own, to break."""
    with postgres_server(max_connections=20) as started:
        yield started


@pytest.fixture
async def sql(postgres: Postgres) -> AsyncIterator[SqlStore]:
    """A store on PostgreSQL that is not patient, with tables."""
    name = fresh_database(postgres, TEMPLATE)
    store = await open_store(postgres.url(name, timeout_s=2))
    assert isinstance(store, SqlStore)
    store.database = name  # type: ignore[attr-defined]
    yield store
    await store.aclose()
    drop_database(postgres, name)


@pytest.fixture(params=sorted(STORES))
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with STORES[request.param](request, True) as url:
        yield url


@pytest.fixture(params=sorted(STORES))
def empty_store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with STORES[request.param](request, False) as url:
        yield url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await open_store(store_url)
    await opened.ensure_schema()
    yield opened
    await opened.aclose()
