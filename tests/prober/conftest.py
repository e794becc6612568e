"""A town for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.services import shore
from support.town import Town
from support.valkey import Valkey


@pytest.fixture
async def town(tmp_path: Path, valkey: Valkey) -> AsyncIterator[Town]:
    with shore(tmp_path, valkey) as ground:
        yield Town(ground)
