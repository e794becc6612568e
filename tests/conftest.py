"""What several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.cluster import Cluster, running_cluster
from support.valkey import Valkey, valkey_server

pytest_plugins = ["support.mongo.fixtures"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One healthy laptop cluster for all tests that can share it: each leaves it whole."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "data") as started:
        yield started


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A server of the test's own, to break."""
    with valkey_server() as server:
        yield server


@pytest.fixture
def valkey(own_valkey: Valkey) -> Valkey:
    """The one of the test. In folders where tests share a server this is the name of that."""
    return own_valkey
