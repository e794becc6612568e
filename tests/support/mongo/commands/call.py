"""One command on its way through the server: what a handler is given, and what a test's hook is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

if TYPE_CHECKING:
    from support.mongo.scripted import Connection, ScriptedServer


@dataclass(slots=True)
class Call:
    """A command, where it came from, and how to have it executed."""

    name: str
    command: Document
    server: ScriptedServer
    connection: Connection
    _proceed: Callable[[Document], Awaitable[Document]] | None = field(default=None, repr=False)

    @property
    def database(self) -> str:
        return str(self.command["$db"])

    @property
    def namespace(self) -> str:
        """Database and collection, for commands that name a collection first."""
        return f"{self.database}.{self.command[self.name]}"

    async def proceed(self, command: Document | None = None) -> Document:
        """Have it executed (or another in its place), and take the answer, errors too, as a document."""
        if self._proceed is None:
            raise CommandError(ErrorCode.BAD_VALUE, "a handler has nothing to proceed to")
        return await self._proceed(self.command if command is None else command)


Handler = Callable[[Call], Document]
"""Executes a command; raises `CommandError`."""

Hook = Callable[[Call], Awaitable[Document]]
"""What a test puts before a command: it answers, proceeds, does either late, or raises `Reset` or `CommandError`."""


class Reset(Exception):
    """Raised by a hook: the connection is reset and nothing is answered."""


def done(**fields: object) -> Document:
    """An answer of success."""
    return {**fields, "ok": 1.0}
