"""The stores that contract tests run on. Another adapter joins by one more entry of STORES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support.postgres import Postgres, drop_database, fresh_database

from chatkernel.storage.sql.schema import metadata

TEMPLATE = "template_chat"
"""A database with the tables, of which the tests' own are copies, if they change more than rows."""
EMPTIED = "emptied_chat"
"""One with the tables, that is used by one test after the other."""
PATIENT = {"pool_wait_s": 30, "connect_timeout_s": 30, "timeout_s": 30}
"""The contract says nothing of deadlines, and a machine that is busy with other tests is slow. Those of faults have
theirs."""


@contextmanager
def _sqlite(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    path: Path = request.getfixturevalue("tmp_path")
    yield f"sqlite:///{path}/chat.db"


@contextmanager
def _postgres(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    server: Postgres = request.getfixturevalue("postgres")
    if made:
        server.sql(f"TRUNCATE {', '.join(set(metadata.tables) - {'schema_version'})}", EMPTIED)
        yield server.url(EMPTIED, **PATIENT)
        return
    name = fresh_database(server)
    yield server.url(name, **PATIENT)
    drop_database(server, name)


@contextmanager
def _mongo(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    url: str = request.getfixturevalue("mongo_url")
    yield url


@contextmanager
def _split(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    """Messages on one, the directory on the other."""
    with _mongo(request, made) as messages, _sqlite(request, made) as directory:
        yield f"{messages} {directory}"


@contextmanager
def _split_postgres(request: pytest.FixtureRequest, made: bool) -> Iterator[str]:
    """The two that teams run together."""
    with _mongo(request, made) as messages, _postgres(request, made) as directory:
        yield f"{messages} {directory}"


Url = AbstractContextManager[str]
STORES: dict[str, Callable[[pytest.FixtureRequest, bool], Url]] = {
    "mongo": _mongo,
    "postgres": _postgres,
    "split": _split,
    "split-postgres": _split_postgres,
    "sqlite": _sqlite,
}
"""By name, the URL of a fresh store of each database while a test runs. `made`: with tables, if that is quicker."""
