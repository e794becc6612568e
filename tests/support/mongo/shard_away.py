"""A shard without a primary, behind a scripted mongos."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from support.mongo.commands.call import Call, Hook
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document


def shard_away(holds: Callable[[str], bool]) -> Hook:
    """For `*`: what goes to the shard that `holds` these values of shard keys waits its time out and fails. So does
    what names no shard key, for it goes to all shards."""

    async def hook(call: Call) -> Document:
        if any(value is None or holds(value) for value in _targets(call)):
            await asyncio.sleep(call.command.get("maxTimeMS", 20_000) / 1000)
            raise CommandError(ErrorCode.MAX_TIME_MS_EXPIRED, "operation exceeded time limit")
        return await call.proceed()

    return hook


def _targets(call: Call) -> Iterator[str | None]:
    """Values of the shard key that a command on a sharded collection names; None: it names none."""
    known = {each["_id"]: each for each in call.server.store.documents("config.collections")}
    described = known.get(f"{call.database}.{call.command[call.name]}")
    if described is None:
        return
    key = next(iter(described["key"]))
    for filters in _filters(call.command):
        named = filters.get(key)
        values = named.get("$in", [None]) if isinstance(named, dict) else [named]
        yield from values


def _filters(command: Document) -> list[Any]:
    match next(iter(command)):
        case "insert":
            return list(command["documents"])
        case "update":
            return [each["q"] for each in command["updates"]]
        case "delete":
            return [each["q"] for each in command["deletes"]]
        case "count" | "distinct":
            return [command.get("query", {})]
        case "aggregate":
            return [command["pipeline"][0].get("$match", {})]
        case "find":
            return [command.get("filter", {})]
    return []
