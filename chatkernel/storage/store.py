"""All ports of one store together, for the code that wires services."""

from __future__ import annotations

from typing import Protocol

from chatkernel.storage.directory import Accounts, Devices, People
from chatkernel.storage.messages import Conversations, EventLog


class Store(EventLog, Conversations, Accounts, Devices, People, Protocol):
    """What `open_store` gives. On Kubernetes the directory may live in another database than the messages."""

    async def ensure_schema(self) -> None:
        """Make tables and indexes that are missing; idempotent, safe from several processes at once."""

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has its schema, and
        ChatError(STORAGE_DAMAGED) where it is known to be damaged."""
