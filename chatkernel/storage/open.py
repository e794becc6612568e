"""Choosing the storage adapter by the scheme of its URL."""

from __future__ import annotations

from typing import Protocol

from chatkernel.errors import invalid
from chatkernel.storage.directory import Accounts, Devices, People
from chatkernel.storage.messages import Conversations, EventLog
from chatkernel.storage.sql import open_sql


class Store(EventLog, Conversations, Accounts, Devices, People, Protocol):
    """Both ports in one, as every adapter of this project brings them."""

    async def ensure_schema(self) -> None:
        """Make tables and indexes that are missing; idempotent, safe from several processes at once."""

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has its schema."""


async def open_store(url: str) -> Store:
    """Open the store of this URL. Raises ChatError(INVALID_FIELD) when no adapter knows its scheme, and what the
    adapter raises."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        return await open_sql(url)
    raise invalid(
        "store_url", f"no adapter for {scheme or 'an empty URL'!r}; known: sqlite:///path/to/file.db"
    )
