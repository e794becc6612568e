"""Beside the healthy cluster one whose services can be broken on purpose, for the tests that prove that the
promises' tests can fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from breaks import BUILDS, Breaks
from support.cluster import Cluster, default_spec, running_cluster


@pytest.fixture(scope="session")
def breaks(tmp_path_factory: pytest.TempPathFactory) -> Breaks:
    return Breaks(tmp_path_factory.mktemp("breaks") / "on")


@pytest.fixture(scope="session")
def breakable(tmp_path_factory: pytest.TempPathFactory, breaks: Breaks) -> Iterator[Cluster]:
    data = tmp_path_factory.mktemp("breakable") / "data"
    with running_cluster(data, default_spec(), BUILDS, {"CHAT_TEST_BREAKS": str(breaks.file)}) as started:
        yield started
