"""find, the little of aggregate that counting and grouping need, count, distinct, and cursors."""

from __future__ import annotations

from typing import Any

from support.mongo.commands.call import Call, Handler, done
from support.mongo.commands.sharding import note_target
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.values import elements, matches, order, sorted_by, values_at
from support.mongo.wire import Document


def find(call: Call) -> Document:
    command = call.command
    if "collation" in command:
        raise CommandError(ErrorCode.BAD_VALUE, "the scripted server knows no collations")
    note_target(call, command.get("filter", {}))
    found = _found(call, command.get("filter", {}))
    found = _page(found, command.get("sort"), int(command.get("skip", 0)), abs(int(command.get("limit", 0))))
    projection = command.get("projection")
    shown = [_projected(each, projection) for each in found] if projection else found
    return call.server.store.cursor(call.namespace, shown, command)


def _found(call: Call, filters: Document) -> list[Document]:
    present = call.server.store.collections.get(call.namespace)
    if present is None:
        matches({}, filters)  # an operator that is not known is refused here, too
        return []
    return present.find(filters)


def _page(documents: list[Document], sort: Document | None, skip: int, limit: int) -> list[Document]:
    documents = sorted_by(documents, sort) if sort else documents
    return documents[skip : skip + limit if limit else None]


def _projected(document: Document, projection: Document) -> Document:
    """Inclusion or exclusion of whole fields, as an adapter asks for them."""
    if any(isinstance(each, dict | str) or "." in name for name, each in projection.items()):
        raise CommandError(
            ErrorCode.BAD_VALUE, f"the scripted server projects whole fields only, not {projection}"
        )
    fields = {name: bool(each) for name, each in projection.items() if name != "_id"}
    with_identity = bool(projection.get("_id", True))
    including = any(fields.values()) or (not fields and with_identity)
    return {
        name: value
        for name, value in document.items()
        if (with_identity if name == "_id" else (name in fields) == including)
    }


def get_more(call: Call) -> Document:
    size = call.command.get("batchSize")
    return call.server.store.more(int(call.command["getMore"]), int(size) if size else None)


def kill_cursors(call: Call) -> Document:
    return call.server.store.kill(call.command["cursors"])


def count(call: Call) -> Document:
    note_target(call, call.command.get("query", {}))
    found = _found(call, call.command.get("query", {}))
    paged = _page(found, None, int(call.command.get("skip", 0)), int(call.command.get("limit", 0)))
    return done(n=len(paged))


def distinct(call: Call) -> Document:
    note_target(call, call.command.get("query", {}))
    values: dict[Any, object] = {}
    for document in _found(call, call.command.get("query", {})):
        for value in values_at(document, call.command["key"]):
            for each in elements(value):
                values.setdefault(order(each), each)
    return done(values=[values[key] for key in sorted(values)])


def aggregate(call: Call) -> Document:
    pipeline = call.command["pipeline"]
    first = pipeline[0].get("$match", {}) if pipeline else {}
    note_target(call, first)
    documents = _found(call, first)
    for stage in pipeline:
        ((name, operand),) = stage.items()
        documents = _stage(documents, name, operand)
    return call.server.store.cursor(call.namespace, documents, call.command)


def _stage(documents: list[Document], name: str, operand: Any) -> list[Document]:
    match name:
        case "$match":
            return [each for each in documents if matches(each, operand)]
        case "$sort":
            return sorted_by(documents, operand)
        case "$limit":
            return documents[: int(operand)]
        case "$skip":
            return documents[int(operand) :]
        case "$project":
            return [_projected(each, operand) for each in documents]
        case "$count":
            return [{operand: len(documents)}] if documents else []
        case "$group":
            return _grouped(documents, operand)
    raise CommandError(ErrorCode.BAD_VALUE, f"the scripted server knows no stage {name}")


def _grouped(documents: list[Document], group: Document) -> list[Document]:
    members: dict[Any, tuple[object, list[Document]]] = {}
    for document in documents:
        identity = _expression(document, group["_id"])
        members.setdefault(order(identity), (identity, []))[1].append(document)
    accumulators = {name: each for name, each in group.items() if name != "_id"}
    return [
        {"_id": identity} | {name: _accumulated(each, accumulators[name]) for name in accumulators}
        for identity, each in members.values()
    ]


def _expression(document: Document, expression: Any) -> Any:
    match expression:
        case str() if expression.startswith("$"):
            return next(iter(values_at(document, expression[1:])), None)
        case dict():
            return {name: _expression(document, each) for name, each in expression.items()}
    return expression


def _accumulated(documents: list[Document], accumulator: Document) -> Any:
    ((name, expression),) = accumulator.items()
    values = [_expression(each, expression) for each in documents]
    match name:
        case "$sum":
            return sum(each for each in values if isinstance(each, int | float))
        case "$max":
            return max(values, key=order)
        case "$min":
            return min(values, key=order)
        case "$first":
            return values[0]
        case "$last":
            return values[-1]
    raise CommandError(ErrorCode.BAD_VALUE, f"the scripted server knows no accumulator {name}")


COMMANDS: dict[str, Handler] = {
    "find": find,
    "getMore": get_more,
    "killCursors": kill_cursors,
    "count": count,
    "distinct": distinct,
    "aggregate": aggregate,
}
