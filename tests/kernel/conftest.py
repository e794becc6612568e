"""A store with three people, and two pods that write to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.desk import Desk

from chatkernel.storage.model import User
from chatkernel.storage.open import open_store
from chatkernel.storage.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(f"sqlite:///{tmp_path / 'chat.db'}")
    await opened.ensure_schema()
    for name in ("ann", "bob", "eve"):
        await opened.create_user(User(name, name, name.title(), 1), "")
    yield opened
    await opened.aclose()


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


@pytest.fixture
def other(store: Store) -> Desk:
    """Another pod, which remembers nothing of what the first one did."""
    return Desk(store)
