"""Services as they run in containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.services import Shore, shore
from support.valkey import Valkey


@pytest.fixture
def ground(tmp_path: Path, valkey: Valkey) -> Iterator[Shore]:
    with shore(tmp_path, valkey) as made:
        yield made
