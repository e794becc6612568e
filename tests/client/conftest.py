from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fakeserver import FakeCluster


@pytest.fixture
async def fake() -> AsyncIterator[FakeCluster]:
    """Two scripted chat pods and discovery, over real sockets."""
    fake = FakeCluster()
    await fake.start()
    yield fake
    await fake.stop()
