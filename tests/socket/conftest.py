"""Each test has a crew on the shared cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.cluster import Cluster
from support.crew import Crew, crew


@pytest.fixture
async def some(cluster: Cluster) -> AsyncIterator[Crew]:
    async with crew(cluster) as made:
        yield made
