"""Fixtures of the MongoDB servers, for all folders of tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.mongo.chosen import VARIABLE, MongoKind, chosen, with_database
from support.mongo.java_build import missing
from support.mongo.java_server import JavaMongo, java_server


def pytest_report_header() -> str:
    return chosen().line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not tested is said at the end, too, where it is read."""
    choice = chosen()
    if choice.kind is MongoKind.NONE:
        terminalreporter.write_line(choice.line, yellow=True)


def fresh_database() -> str:
    """A name that nobody has, so that tests share a server without meeting."""
    return f"chatcluster_test_{os.urandom(6).hex()}"


@pytest.fixture(scope="session")
def java_mongo() -> Iterator[JavaMongo]:
    """One mongo-java-server for all tests that can share it: each takes databases of its own and leaves it whole."""
    if (why := missing()) is not None:
        pytest.skip(f"mongo-java-server: {why}")
    with java_server() as server:
        yield server


@pytest.fixture
def java_mongo_url(java_mongo: JavaMongo) -> str:
    """mongo-java-server with a fresh database in the path."""
    return with_database(java_mongo.url, fresh_database())


@pytest.fixture(scope="session")
def mongo_deployment(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the server that was chosen."""
    choice = chosen()
    match choice.kind:
        case MongoKind.URI:
            yield os.environ[VARIABLE]
        case MongoKind.SCRIPTED:
            from support.mongo.threaded import threaded_replica_set

            with threaded_replica_set() as replicas:
                yield replicas.url
        case MongoKind.JAVA:
            server: JavaMongo = request.getfixturevalue("java_mongo")
            yield server.url
        case MongoKind.NONE:
            pytest.skip(choice.words)


@pytest.fixture
def mongo_url(mongo_deployment: str) -> Iterator[str]:
    """The chosen server with a fresh database in the path, which is dropped at the end."""
    from pymongo import MongoClient

    database = fresh_database()
    yield with_database(mongo_deployment, database)
    with MongoClient[dict[str, object]](mongo_deployment, timeoutMS=10_000) as client:
        client.drop_database(database)
