"""What an update does to a document: the operators that an adapter may lean on; any other is refused."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from bson import Int64, ObjectId
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.values import is_operators, matches, order
from support.mongo.wire import Document

NOTHING = object()
"""In place of a value where a document has none: null is a value."""


def updated(document: Document, update: Any, *, inserting: bool = False) -> Document:
    """The document as the update leaves it; the one given is not touched."""
    if isinstance(update, list):
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "the scripted server knows no pipeline updates")
    if not update or not next(iter(update)).startswith("$"):
        return _replaced(document, update)
    _refuse_conflicts(update)
    result = copy.deepcopy(document)
    for operator, fields in update.items():
        if operator == "$setOnInsert":
            if inserting:
                _each(result, "$set", fields)
        else:
            _each(result, operator, fields)
    if not inserting and order(result.get("_id")) != order(document.get("_id")):
        raise CommandError(
            ErrorCode.IMMUTABLE_FIELD,
            "Performing an update on the path '_id' would modify the immutable field '_id'",
        )
    return result


def upserted(filters: Mapping[str, Any], update: Any) -> Document:
    """The document that an upsert inserts when none was found: what the filter is equal to, and the update."""
    seed: Document = {}
    for name, condition in filters.items():
        if name == "$and":
            for part in condition:
                seed |= upserted(part, {"$set": {}})
        elif not name.startswith("$"):
            if not is_operators(condition):
                _put(seed, name, condition)
            elif "$eq" in condition:
                _put(seed, name, condition["$eq"])
    result = updated(seed, update, inserting=True)
    return result if "_id" in result else {"_id": ObjectId(), **result}


def _replaced(document: Document, replacement: Document) -> Document:
    if any(name.startswith("$") for name in replacement):
        raise CommandError(ErrorCode.FAILED_TO_PARSE, "a replacement must not hold operators")
    identity = {"_id": document["_id"]} if "_id" in document else {}
    if "_id" in replacement and identity and order(replacement["_id"]) != order(document["_id"]):
        raise CommandError(ErrorCode.IMMUTABLE_FIELD, "the _id field cannot be changed")
    return identity | copy.deepcopy(replacement)


def _refuse_conflicts(update: Document) -> None:
    """Two operators of one update must not meet at a path."""
    paths = sorted(path for fields in update.values() for path in fields)
    for first, second in itertools.pairwise(paths):
        if second == first or second.startswith(first + "."):
            raise CommandError(
                ErrorCode.CONFLICTING_UPDATE_OPERATORS,
                f"Updating the path '{second}' would create a conflict at '{first}'",
            )


def _each(document: Document, operator: str, fields: Document) -> None:
    for path, operand in fields.items():
        present = _get(document, path)
        value = _applied(operator, present, operand)
        if value is NOTHING:
            _drop(document, path)
        elif value is not present:
            _put(document, path, value)


def _applied(operator: str, present: Any, operand: Any) -> Any:
    """The value that the operator leaves where `present` is."""
    match operator:
        case "$set":
            return copy.deepcopy(operand)
        case "$unset":
            return NOTHING
        case "$inc":
            return _sum(present, operand)
        case "$max":
            return operand if present is NOTHING or order(operand) > order(present) else present
        case "$min":
            return operand if present is NOTHING or order(operand) < order(present) else present
        case "$push":
            return _array(present, operator) + _given(operand)
        case "$addToSet":
            array = list(_array(present, operator))
            for each in _given(operand):
                if all(order(each) != order(old) for old in array):
                    array.append(each)
            return array
        case "$pull":
            return present if present is NOTHING else _without(_array(present, operator), operand)
    raise CommandError(ErrorCode.FAILED_TO_PARSE, f"Unknown modifier: {operator}")


def _sum(present: Any, operand: Any) -> Any:
    if present is NOTHING:
        return operand
    if isinstance(present, bool) or not isinstance(present, int | float):
        raise CommandError(ErrorCode.TYPE_MISMATCH, "Cannot apply $inc to a value of non-numeric type")
    total = present + operand
    wide = isinstance(present, Int64) or isinstance(operand, Int64)
    return Int64(total) if wide and isinstance(total, int) else total


def _array(present: Any, operator: str) -> list[Any]:
    if present is NOTHING:
        return []
    if not isinstance(present, list):
        raise CommandError(ErrorCode.BAD_VALUE, f"Cannot apply {operator} to a non-array field")
    return present


def _given(operand: Any) -> list[Any]:
    """`{$each: [...]}` is several values."""
    if is_operators(operand):
        if set(operand) != {"$each"}:
            raise CommandError(ErrorCode.BAD_VALUE, f"the scripted server knows $each alone, not {operand}")
        return list(operand["$each"])
    return [operand]


def _without(array: list[Any], operand: Any) -> list[Any]:
    def goes(value: Any) -> bool:
        if is_operators(operand):
            return matches({"value": value}, {"value": operand})
        if isinstance(operand, dict) and isinstance(value, dict):
            return matches(value, operand)
        return order(value) == order(operand)

    return [value for value in array if not goes(value)]


def _get(document: Document, path: str) -> Any:
    at: Any = document
    for name in path.split("."):
        if not isinstance(at, dict) or name not in at:
            return NOTHING
        at = at[name]
    return at


def _parent(document: Document, path: str) -> tuple[Document, str]:
    *parents, last = path.split(".")
    at = document
    for name in parents:
        at = at.setdefault(name, {})
        if not isinstance(at, dict):
            raise CommandError(ErrorCode.BAD_VALUE, f"Cannot create field '{last}' in element {name}")
    return at, last


def _put(document: Document, path: str, value: Any) -> None:
    parent, last = _parent(document, path)
    parent[last] = value


def _drop(document: Document, path: str) -> None:
    if _get(document, path) is not NOTHING:
        parent, last = _parent(document, path)
        del parent[last]
