"""Choosing the storage adapter by the scheme of its URL."""

from __future__ import annotations

from chatkernel.errors import invalid
from chatkernel.storage.mongo import open_mongo
from chatkernel.storage.sql import open_postgres, open_sql
from chatkernel.storage.store import Store


async def open_store(url: str) -> Store:
    """Open the store of this URL. Raises ChatError(INVALID_FIELD) when no adapter knows its scheme, and what the
    adapter raises."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        return await open_sql(url)
    if scheme in ("postgresql", "postgres"):
        return await open_postgres(url)
    if scheme in ("mongodb", "mongodb+srv"):
        return await open_mongo(url)
    raise invalid(
        "store_url",
        f"no adapter for {scheme or 'an empty URL'!r}; known: sqlite:///path/to/file.db,"
        " postgresql://user@host/name, mongodb://host/name",
    )
