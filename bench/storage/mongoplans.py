"""By which index MongoDB answers what the adapter sends.

Commands are taken from the driver. A server that explains is asked; mongo-java-server does not, and then the command
is held against the indexes that the server says it has: its fields must be a beginning of one.
"""

from __future__ import annotations

import json
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandListener, CommandStartedEvent, register

from bench.storage.sqlplans import LOGS, Explained
from chatkernel.storage.mongo.documents import Document

_READS = ("find", "count", "aggregate")
_FIELDS = ("filter", "query", "sort", "limit", "projection", "pipeline", "cursor", "hint")


class MongoWatch(CommandListener):
    """What clients that are made from now on send to this URL."""

    def __init__(self, url: str) -> None:
        self._url, self._on = url, True
        self._sent: list[Document] = []
        register(self)

    def started(self, event: CommandStartedEvent) -> None:
        if self._on:
            self._sent += _lookups(event.command_name, dict(event.command))

    def succeeded(self, event: object) -> None: ...

    def failed(self, event: object) -> None: ...

    def taken(self) -> list[Explained]:
        sent = {json.dumps(each, default=str, sort_keys=True): each for each in self._sent}.values()
        self._on = False
        try:
            with MongoClient[Document](self._url) as client:
                return [_explained(client, each) for each in sent]
        finally:
            self._sent, self._on = [], True

    def stop(self) -> None:
        self._on = False


def _lookups(name: str, command: Document) -> list[Document]:
    """The command as reads that can be explained; an update finds its document like a read does."""
    if name in _READS:
        return [{name: command[name], **{key: command[key] for key in _FIELDS if key in command}}]
    if name == "update":
        return [{"find": command["update"], "filter": each["q"]} for each in command.get("updates", [])[:1]]
    return []


def _explained(client: MongoClient[Document], command: Document) -> Explained:
    database = client.get_default_database()
    name = next(iter(command))
    try:
        said = database.command({"explain": command, "verbosity": "queryPlanner"})
        winner = said["queryPlanner"]["winningPlan"]
        stages = list(_stages(winner))
    except (OperationFailure, KeyError):
        return _declared(database[command[name]].index_information(), command)
    faults = [f"{stage.lower()} on {command[name]}" for stage in stages if stage in ("COLLSCAN", "SORT")]
    return Explained(_words(command), " < ".join(stages), tuple(faults))


def _stages(node: Any) -> Any:
    if isinstance(node, dict):
        if "stage" in node:
            yield node["stage"]
        for value in node.values():
            yield from _stages(value)
    elif isinstance(node, list):
        for value in node:
            yield from _stages(value)


def _declared(indexes: Any, command: Document) -> Explained:
    """A server without explain: what its indexes could do."""
    collection = command[next(iter(command))]
    where: Document = command.get("filter") or command.get("query") or {}
    if "pipeline" in command:
        where = command["pipeline"][0].get("$match", {})
    order = list(dict(command.get("sort") or {}))
    best, faults = "", [f"no index of {collection} begins with {' or '.join(where) or 'nothing'}"]
    for name, index in indexes.items():
        fields = [field for field, _ in index["key"]]
        used = _used(fields, where)
        if not used:
            continue
        wrong = []
        if order and not _ordered(fields, where, order):
            wrong.append("sorts")
        if collection in LOGS and len(used) < 2 and not order:
            wrong.append(f"reads all of a channel in {collection}")
        if not best or len(wrong) < len(faults):
            best, faults = f"{name} by {', '.join(used)}", wrong
    return Explained(_words(command), f"declared: {best or 'none'}", tuple(faults))


def _used(fields: list[str], where: Document) -> list[str]:
    """The fields of the index that narrow it down: equal ones, and after them one range."""
    alternatives = where.get("$or")
    if alternatives:
        where = {**where, **alternatives[0]}
    used = []
    for field in fields:
        if field not in where:
            break
        used.append(field)
        if not _equal(where[field]):
            break
    return used


def _ordered(fields: list[str], where: Document, order: list[str]) -> bool:
    equal = 0
    while equal < len(fields) and fields[equal] in where and _equal(where[fields[equal]]):
        equal += 1
    return any(fields[start : start + len(order)] == order for start in range(equal + 1))


def _equal(value: Any) -> bool:
    return not isinstance(value, dict) or "$in" in value


def _words(command: Document) -> str:
    return json.dumps(command, default=str)[:400]
