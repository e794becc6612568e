"""A tended cluster on the small API server, with a real Valkey. A file that needs another has fixtures of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.kube_api import KubeApi
from support.kube_cluster import World, tended
from support.valkey import Valkey


@pytest.fixture
async def world(valkey: Valkey, tmp_path: Path) -> AsyncIterator[World]:
    async with KubeApi().running() as api:
        made = World(api, valkey)
        made.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(made, tmp_path):
            yield made
