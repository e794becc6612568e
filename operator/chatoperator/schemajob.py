"""Makes the store's tables and indexes, in a process of its own: the operator needs no database library."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

import msgspec

from chatkernel.errors import ChatError, StoreRefuses
from chatkernel.settings import SettingsError, read_url
from chatkernel.storage.schema_step import Placement
from chatkernel.trust import TrustError, trusting_store

STORE_ENV = "CHAT_STORE_URL"
DIRECTORY_ENV = "CHAT_DIRECTORY_URL"
"""A second store's, where the directory of people is apart from the messages."""
FILE_SUFFIX, CA_FILE_SUFFIX, INSECURE_SUFFIX = "_FILE", "_CA_FILE", "_INSECURE"
"""Of both, as in the settings of services: a file that holds the URL (it wins), who is trusted, and `1`: anybody."""
PLACEMENT_ENV = "CHAT_STORE_PLACEMENT"
"""A `Placement` as JSON."""
REFUSED = 78
"""The exit code when trying again cannot help (a URL that no adapter knows)."""
DENIED = 77
"""The exit code when the store does not let us in: a person may see to that without our knowing."""


def store_url(environ: Mapping[str, str]) -> str:
    """Of both stores, if there are two. Raises SettingsError, TrustError."""
    url = _url(environ, STORE_ENV)
    if not url:
        raise SettingsError(f"{STORE_ENV} or {STORE_ENV}{FILE_SUFFIX} says where the store is")
    return f"{url} {_url(environ, DIRECTORY_ENV)}".strip()


def _url(environ: Mapping[str, str], name: str) -> str:
    file = environ.get(f"{name}{FILE_SUFFIX}")
    url = read_url(file) if file else environ.get(name, "")
    insecure = environ.get(f"{name}{INSECURE_SUFFIX}") == "1"
    return trusting_store(url, environ.get(f"{name}{CA_FILE_SUFFIX}", ""), insecure=insecure) if url else ""


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
        asyncio.run(make_schema(store_url(os.environ), placement))
    except ChatError as error:
        sys.stderr.write(f"{error.detail}\n")
        raise SystemExit(_code(error)) from error
    except (SettingsError, TrustError) as error:
        # A Secret may be filled later, and a mounted one is then seen.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error


def _code(error: ChatError) -> int:
    if isinstance(error, StoreRefuses):
        return DENIED
    return 1 if error.retryable else REFUSED


if __name__ == "__main__":
    main()
