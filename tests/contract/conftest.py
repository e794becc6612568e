"""The store under test. Another adapter joins by one more entry of STORES; all contract tests then run on it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatkernel.storage.open import Store, open_store

STORES = {
    "sqlite": lambda path: f"sqlite:///{path}/chat.db",
    "mongo": lambda path: f"mongodb://127.0.0.1:27117/t{uuid.uuid4().hex[:12]}",
}


@pytest.fixture(params=sorted(STORES))
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return STORES[request.param](tmp_path)


@pytest.fixture
def mongo_url(tmp_path: Path) -> str:
    return STORES["mongo"](tmp_path)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    opened = await open_store(store_url)
    await opened.ensure_schema()
    yield opened
    await opened.aclose()
