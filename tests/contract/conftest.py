"""The store under test. Another adapter joins by one more entry of STORES; all contract tests then run on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatkernel.storage.open import Store, open_store

STORES = ("mongo", "sqlite")


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "mongo":
        url: str = request.getfixturevalue("mongo_url")
        return url
    return f"sqlite:///{tmp_path}/chat.db"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await open_store(store_url)
    await opened.ensure_schema()
    yield opened
    await opened.aclose()
