"""Messages in one store and the directory of people in another: two adapters behind the ports as if they were one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from msgspec.structs import replace

from chatkernel.storage.directory import Accounts, Devices, People
from chatkernel.storage.lifecycle import Jobs
from chatkernel.storage.schema_step import ANYWHERE, Placement, SchemaStep
from chatkernel.storage.store import Store
from chatkernel.storage.together import gathered

_OF_PEOPLE = {"forget_person", "lock_person"}
"""What of the port Lifecycle is the directory's."""


def _operations(*ports: type) -> set[str]:
    return {name for port in ports for name in vars(port) if not name.startswith("_")}


DIRECTORY = _operations(Accounts, Devices, People, Jobs) | _OF_PEOPLE
"""Operations of the directory: all others are the messages'. Archives that jobs make are personal data, too."""


def split(messages: Store, directory: Store) -> Store:
    """Both as one, which closes both."""
    return cast(Store, _Split(messages, directory))


class _Split:
    def __init__(self, messages: Store, directory: Store) -> None:
        self._messages, self._directory = messages, directory
        for port in Store.__mro__:
            for name in _operations(port) - _operations(_Split):
                if hasattr(messages, name):
                    # Looked up once: a send should not pay for the choice.
                    setattr(self, name, getattr(directory if name in DIRECTORY else messages, name))

    async def blocked_channels(self, channel_ids: Sequence[str]) -> set[str]:
        """Who is in a channel, the messages know; who has blocked whom, the directory."""
        found = await gathered([self._messages.members(each, limit=3) for each in channel_ids])
        pairs = {
            channel_id: [member.user_id for member in members]
            for channel_id, members in zip(channel_ids, found, strict=True)
            if len(members) == 2
        }
        blocked = await gathered([self._directory.blocked_between(*pair) for pair in pairs.values()])
        return {channel_id for channel_id, is_blocked in zip(pairs, blocked, strict=True) if is_blocked}

    async def plan_schema(self, placement: Placement = ANYWHERE) -> list[SchemaStep]:
        planned = _of("messages", await self._messages.plan_schema(placement))
        return planned + _of("directory", await self._directory.plan_schema())

    async def ensure_schema(
        self, placement: Placement = ANYWHERE, *, allow_destructive: bool = False
    ) -> list[SchemaStep]:
        made = await self._messages.ensure_schema(placement, allow_destructive=allow_destructive)
        others = await self._directory.ensure_schema(allow_destructive=allow_destructive)
        return _of("messages", made) + _of("directory", others)

    async def check(self) -> None:
        await asyncio.gather(self._messages.check(), self._directory.check())

    async def aclose(self) -> None:
        try:
            await self._messages.aclose()
        finally:
            await self._directory.aclose()


def _of(store: str, steps: Sequence[SchemaStep]) -> list[SchemaStep]:
    """So that a person knows in which of the two it is done."""
    return [replace(step, does=f"{store}: {step.does}") for step in steps]
