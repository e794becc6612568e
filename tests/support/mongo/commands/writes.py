"""insert, update, delete, find-and-modify: statement by statement, each executed once however often it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from support.mongo.collection import Collection
from support.mongo.commands.call import Call, Handler, done
from support.mongo.commands.sharding import note_target
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.values import sorted_by
from support.mongo.wire import Document

Execute = Callable[[Collection, Any], Document]
"""Executes one statement and returns what it adds to the answer."""


def _batch(call: Call, statements: Iterable[Any], execute: Execute) -> list[Document]:
    """Execute each statement that was not executed before; write errors are part of the outcome.

    A retryable write that comes again has the same transaction number: what of it was executed is answered from
    memory, and the rest is executed now. That is what makes a retry after a lost answer safe.
    """
    executed = call.server.store.executed(call.command)
    collection = call.server.store.collection(call.namespace)
    outcomes: list[Document] = []
    retried: list[int] = []
    for index, statement in enumerate(statements):
        if index in executed:
            retried.append(index)
            outcomes.append(executed[index])
            continue
        try:
            outcome = execute(collection, statement)
        except CommandError as refused:
            outcomes.append({"writeErrors": [refused.write_error(index)]})
            if call.command.get("ordered", True):
                break
            continue
        if "txnNumber" in call.command:
            executed[index] = outcome
        outcomes.append(outcome)
    return [*outcomes, {"retriedStmtIds": retried}] if retried else outcomes


def _summed(outcomes: list[Document], **counts: int) -> Document:
    """One answer of many outcomes: numbers add up, lists are joined."""
    answer: Document = dict(counts)
    for outcome in outcomes:
        for name, value in outcome.items():
            answer[name] = answer[name] + value if name in answer else value
    return done(**answer)


def insert(call: Call) -> Document:
    def execute(collection: Collection, document: Document) -> Document:
        collection.insert(document)
        return {"n": 1}

    return _summed(_batch(call, call.command["documents"], execute), n=0)


def update(call: Call) -> Document:
    statements = list(enumerate(call.command["updates"]))

    def execute(collection: Collection, numbered: tuple[int, Document]) -> Document:
        index, statement = numbered
        if "arrayFilters" in statement or "collation" in statement:
            raise CommandError(
                ErrorCode.BAD_VALUE, "the scripted server knows no array filters and collations"
            )
        note_target(call, statement["q"])
        result = collection.update(
            statement["q"],
            statement["u"],
            upsert=bool(statement.get("upsert")),
            multi=bool(statement.get("multi")),
            sort=statement.get("sort"),
        )
        if result.matched == 0 and result.after is not None:
            return {"n": 1, "nModified": 0, "upserted": [{"index": index, "_id": result.upserted}]}
        return {"n": result.matched, "nModified": result.modified}

    return _summed(_batch(call, statements, execute), n=0, nModified=0)


def delete(call: Call) -> Document:
    def execute(collection: Collection, statement: Document) -> Document:
        note_target(call, statement["q"])
        return {"n": len(collection.delete(statement["q"], int(statement["limit"])))}

    return _summed(_batch(call, call.command["deletes"], execute), n=0)


def find_and_modify(call: Call) -> Document:
    executed = call.server.store.executed(call.command)
    if 0 in executed:
        return executed[0] | {"retriedStmtId": 0}
    command = call.command
    note_target(call, command.get("query", {}))
    collection = call.server.store.collection(call.namespace)
    answer = _removed(collection, command) if command.get("remove") else _modified(collection, command)
    if "txnNumber" in command:
        executed[0] = answer
    return answer


def _removed(collection: Collection, command: Document) -> Document:
    found = sorted_by(collection.find(command.get("query", {})), command.get("sort", {}))
    for each in found[:1]:
        collection.delete({"_id": each["_id"]}, 1)
    return done(lastErrorObject={"n": len(found[:1])}, value=found[0] if found else None)


def _modified(collection: Collection, command: Document) -> Document:
    result = collection.update(
        command.get("query", {}),
        command["update"],
        upsert=bool(command.get("upsert")),
        multi=False,
        sort=command.get("sort"),
    )
    happened: Document = {"n": 1 if result.after else 0, "updatedExisting": result.matched > 0}
    if result.after is not None and result.before is None:
        happened["upserted"] = result.upserted
    value = result.after if command.get("new") else result.before
    return done(lastErrorObject=happened, value=value)


COMMANDS: dict[str, Handler] = {
    "insert": insert,
    "update": update,
    "delete": delete,
    "findAndModify": find_and_modify,
    "findandmodify": find_and_modify,
}
