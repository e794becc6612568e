"""Choosing the storage adapter by the scheme of its URL."""

from __future__ import annotations

from chatkernel.errors import invalid
from chatkernel.storage.mongo import open_mongo
from chatkernel.storage.split import split
from chatkernel.storage.sql import open_postgres, open_sql
from chatkernel.storage.store import Store
from chatkernel.storage.url import parts_of, scheme_of


async def open_store(url: str) -> Store:
    """Open the store of this URL; of two that a space parts, the first is that of the messages and the second that of
    the directory. Raises ChatError(INVALID_FIELD) when no adapter knows a scheme, and what the adapter raises."""
    first, *others = parts_of(url)
    if not others:
        return await _open(first)
    if len(others) > 1:
        raise invalid("store_url", "at most two URLs: that of the messages, and that of the directory")
    messages = await _open(first)
    try:
        return split(messages, await _open(others[0]))
    except BaseException:
        await messages.aclose()
        raise


async def _open(url: str) -> Store:
    scheme = scheme_of(url)
    if scheme == "sqlite":
        return await open_sql(url)
    if scheme == "postgresql":
        return await open_postgres(url)
    if scheme == "mongodb":
        return await open_mongo(url)
    raise invalid(
        "store_url",
        f"no adapter for {repr(scheme) if scheme else 'what is no URL'}; known: sqlite:///path/to/file.db,"
        " postgresql://user@host/name, mongodb://host/name",
    )
