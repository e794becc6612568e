"""The store under test. Another adapter joins by one more entry of STORES; all contract tests then run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support.postgres import Postgres, drop_database, fresh_database, postgres_server

from chatkernel.storage.open import Store, open_store
from chatkernel.storage.sql import SqlStore

TEMPLATE = "template_chat"
"""A database with the tables, of which the tests' own are copies."""


@contextmanager
def _sqlite(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    path: Path = request.getfixturevalue("tmp_path")
    yield f"sqlite:///{path}/chat.db"


@contextmanager
def _postgres(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    server: Postgres = request.getfixturevalue("postgres")
    name = fresh_database(server, TEMPLATE if made else "template1")
    yield server.url(name)
    drop_database(server, name)


Url = AbstractContextManager[str]
STORES: dict[str, Callable[[pytest.FixtureRequest, bool], Url]] = {"postgres": _postgres, "sqlite": _sqlite}
"""By name, the URL of a fresh store of each database while a test runs. `made`: with tables, if that is quicker."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests that leave it whole."""
    with postgres_server() as server:
        server.sql(f"CREATE DATABASE {TEMPLATE}")
        subprocess.run(
            [sys.executable, "-m", "chatoperator.schemajob"],
            env={**os.environ, "CHAT_STORE_URL": server.url(TEMPLATE)},
            check=True,
        )
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
