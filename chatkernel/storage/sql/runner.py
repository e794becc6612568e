"""What executes operations, which are plain functions of a Connection: all that a database brings of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from chatkernel.errors import ChatError

T = TypeVar("T")
Operation = Callable[[Connection], T]


class Runner(Protocol):
    """Every method raises ChatError(STORAGE_UNAVAILABLE | STORAGE_FULL | STORAGE_DAMAGED | BUSY) with the driver's
    error as its cause, and what the operation itself raises as it is."""

    damage: ChatError | None
    """ChatError(STORAGE_DAMAGED), once an operation has met damage that cannot be mended while this runs."""

    async def read(self, operation: Operation[T]) -> T:
        """Run on one snapshot of committed data."""
        ...

    async def look(self, operation: Operation[T]) -> T:
        """The same for an operation whose statements need no common snapshot: mostly it has but one."""
        ...

    async def write(
        self,
        operation: Operation[T],
        at_once: Operation[T | None] | None = None,
        *,
        about: Sequence[str] = (),
    ) -> T:
        """Run in a transaction; durable when this returns. An error of the operation undoes all of it, and it may
        be run more than once.

        Others may write meanwhile, but nobody who is about one of the same things. So an operation that decides by
        what it has read says what that was about, unless unique keys, guarded updates or locks of its own see to it.

        `at_once` does the same in one statement outside of a transaction, or answers None and has left no trace.
        It is used where nothing else is to share the commit.
        """
        ...

    async def migrate(self, operation: Operation[T]) -> T:
        """A write of which one at a time runs, in all processes, and which may take long."""
        ...

    async def build(self, operation: Operation[T]) -> T:
        """As `migrate`, of what the database can build while others write, if it can: outside of a transaction
        then, so that an error leaves what was done before it."""
        ...

    async def confirm(self) -> None:
        """Wait until nothing that was read so far can be taken back, by no failover either."""
        ...

    async def settle(self) -> None:
        """The same, where there is reason to think that something could be: after a start, or a lost connection."""
        ...

    async def aclose(self) -> None:
        """What was submitted is finished first."""
        ...
