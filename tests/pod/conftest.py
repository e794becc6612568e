"""A pod's parts on a store of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.one_pod import Elsewhere, OnePod

from chatkernel.storage.open import Store, open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path / 'chat.db'}")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@pytest.fixture
def pod(store: Store) -> OnePod:
    return OnePod(store)


@pytest.fixture
def elsewhere(store: Store, pod: OnePod) -> Elsewhere:
    return Elsewhere(store, pod)
