"""All ports of one store together, for the code that wires services."""

from __future__ import annotations

from typing import Protocol

from chatkernel.storage.directory import Accounts, Devices, People
from chatkernel.storage.lifecycle import Jobs, Lifecycle
from chatkernel.storage.messages import Conversations, EventLog
from chatkernel.storage.schema_step import ANYWHERE, Placement, SchemaStep


class Store(EventLog, Conversations, Accounts, Devices, People, Lifecycle, Jobs, Protocol):
    """What `open_store` gives."""

    async def plan_schema(self, placement: Placement = ANYWHERE) -> list[SchemaStep]:
        """What `ensure_schema` would do, in order. Raises ChatError(STORAGE_UNAVAILABLE), also for a store of a
        later version."""

    async def ensure_schema(
        self, placement: Placement = ANYWHERE, *, allow_destructive: bool = False
    ) -> list[SchemaStep]:
        """Do what is to be done, and of what takes something away nothing unless it is allowed; what was done.
        Idempotent, safe from several processes at once. Raises as `plan_schema` does."""

    async def check(self) -> None:
        """Raises ChatError(STORAGE_UNAVAILABLE) unless the store answers and has its schema, and
        ChatError(STORAGE_DAMAGED) where it is known to be damaged."""
