"""Makes the store's tables and indexes, in a process of its own: the operator needs no database library."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from chatkernel.errors import ChatError
from chatkernel.storage.schema_step import Placement

STORE_ENV = "CHAT_STORE_URL"
PLACEMENT_ENV = "CHAT_STORE_PLACEMENT"
"""A `Placement` as JSON."""
REFUSED = 78
"""The exit code when trying again cannot help (a URL that no adapter knows)."""


async def make_schema(url: str, placement: Placement) -> None:
    """Takes nothing away. Raises ChatError."""
    # Late: the operator imports the names below without the database library.
    from chatkernel.storage.open import open_store

    store = await open_store(url)
    try:
        await store.ensure_schema(placement)
    finally:
        await store.aclose()


def main() -> None:
    try:
        placement = msgspec.json.decode(os.environ.get(PLACEMENT_ENV, "{}"), type=Placement)
        asyncio.run(make_schema(os.environ[STORE_ENV], placement))
    except ChatError as error:
        sys.stderr.write(f"{error.detail}\n")
        raise SystemExit(1 if error.retryable else REFUSED) from error


if __name__ == "__main__":
    main()
