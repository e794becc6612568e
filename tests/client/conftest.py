from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakeserver import FakeCluster


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Two scripted chat pods and discovery, over real sockets."""
    cluster = FakeCluster()
    await cluster.start()
    yield cluster
    await cluster.stop()
