"""What several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.cluster import Cluster, running_cluster

pytest_plugins = ["support.mongo.fixtures"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One healthy laptop cluster for all tests that can share it: each leaves it whole."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "data") as started:
        yield started
