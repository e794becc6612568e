"""A driver's client for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymongo import AsyncMongoClient
from support.mongo.wire import Document

TIMEOUT_MS = 5000
"""No operation of a test takes longer, unless the test says so."""


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AsyncMongoClient[Document]]:
    """A client, closed at the end."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(url, **{"timeoutMS": TIMEOUT_MS} | options)
    try:
        yield client
    finally:
        await client.close()
