"""How MongoDB orders values, and which documents a filter means. What is not known here is refused, never guessed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bson import Binary, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

Order = tuple[Any, ...]
"""A key that sorts as MongoDB sorts, and that is the same for values that MongoDB calls equal."""


def order(value: object) -> Order:
    """The place of a value among all values: first its type's, then its own."""
    match value:
        case MinKey():
            return (0,)
        case None:
            return (1,)
        case bool():
            return (8, value)
        case int() | float():
            return (2, value)
        case Decimal128():
            return (2, value.to_decimal())
        case str():
            return (3, value.encode())
        case Mapping():
            return (4, tuple((order(each)[0], name, order(each)) for name, each in value.items()))
        case list() | tuple():
            return (5, tuple(order(each) for each in value))
        case bytes():
            return (6, len(value), value.subtype if isinstance(value, Binary) else 0, bytes(value))
        case ObjectId():
            return (7, value.binary)
        case datetime.datetime():
            return (9, value)
        case Timestamp():
            return (10, value.time, value.inc)
        case Regex() | re.Pattern():
            return (11, value.pattern)
        case MaxKey():
            return (12,)
    raise CommandError(ErrorCode.BAD_VALUE, f"no order for a value of type {type(value).__name__}")


def values_at(document: object, path: str) -> Iterator[object]:
    """What is at a dotted path; in arrays on the way, what is there in each of their documents."""
    if isinstance(document, list):
        for each in document:
            if isinstance(each, dict):
                yield from values_at(each, path)
        return
    if not isinstance(document, dict):
        return
    name, _, rest = path.partition(".")
    if name in document:
        if rest:
            yield from values_at(document[name], rest)
        else:
            yield document[name]


def sort_key(document: Document, path: str, direction: int) -> Order:
    """An array sorts by its least value upwards and by its greatest downwards; nothing sorts as null."""
    found = [each for value in values_at(document, path) for each in elements(value)]
    orders = [order(each) for each in found] or [order(None)]
    return min(orders) if direction > 0 else max(orders)


def sorted_by(documents: list[Document], sort: Mapping[str, int]) -> list[Document]:
    """Stable, as if by one compound key."""
    for path, direction in reversed(list(sort.items())):
        documents = sorted(
            documents,
            key=lambda each, path=path, direction=direction: sort_key(each, path, direction),  # type: ignore[misc]
            reverse=direction < 0,
        )
    return documents


def matches(document: Document, filters: Mapping[str, Any]) -> bool:
    """Whether the filter means this document."""
    return all(_clause(document, name, condition) for name, condition in filters.items())


def _clause(document: Document, name: str, condition: Any) -> bool:
    match name:
        case "$and":
            return all(matches(document, each) for each in condition)
        case "$or":
            return any(matches(document, each) for each in condition)
        case "$nor":
            return not any(matches(document, each) for each in condition)
        case "$comment":
            return True
    if name.startswith("$"):
        raise CommandError(ErrorCode.BAD_VALUE, f"unknown top level operator: {name}")
    return _holds(list(values_at(document, name)), condition)


def is_operators(condition: object) -> bool:
    """Whether a filter's value is operators and not a value to be equal to."""
    return isinstance(condition, dict) and bool(condition) and next(iter(condition)).startswith("$")


def _holds(found: list[object], condition: Any) -> bool:
    if not is_operators(condition):
        return _equal(found, condition)
    return all(_operator(found, name, operand, condition) for name, operand in condition.items())


def _operator(found: list[object], name: str, operand: Any, condition: Document) -> bool:
    match name:
        case "$eq":
            return _equal(found, operand)
        case "$ne":
            return not _equal(found, operand)
        case "$in":
            return any(_equal(found, each) for each in operand)
        case "$nin":
            return not any(_equal(found, each) for each in operand)
        case "$all":
            return all(_equal(found, each) for each in operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_compare(each, name, operand) for value in found for each in elements(value))
        case "$exists":
            return bool(found) == bool(operand)
        case "$size":
            return any(isinstance(value, list) and len(value) == operand for value in found)
        case "$not":
            return not _holds(found, operand)
        case "$elemMatch":
            lists = (value for value in found if isinstance(value, list))
            return any(_element(each, operand) for value in lists for each in value)
        case "$regex":
            flags = re.IGNORECASE if "i" in condition.get("$options", "") else 0
            pattern = re.compile(operand if isinstance(operand, str) else operand.pattern, flags)
            texts = (each for value in found for each in elements(value))
            return any(isinstance(each, str) and pattern.search(each) is not None for each in texts)
        case "$options":
            return True
    raise CommandError(ErrorCode.BAD_VALUE, f"unknown operator: {name}")


def _element(value: object, condition: Document) -> bool:
    if is_operators(condition):
        return _holds([value], condition)
    return isinstance(value, dict) and matches(value, condition)


def elements(value: object) -> list[object]:
    """An array is what it holds; anything else is itself."""
    return value if isinstance(value, list) else [value]


def _equal(found: list[object], wanted: object) -> bool:
    """Null is equal to nothing at all; an array to itself and to each value that it holds."""
    if wanted is None and not found:
        return True
    key = order(wanted)
    return any(order(value) == key or any(order(each) == key for each in elements(value)) for value in found)


def _compare(value: object, name: str, operand: object) -> bool:
    """Values of different types are not compared, as MongoDB's ranges never leave a type."""
    left, right = order(value), order(operand)
    unbounded = isinstance(operand, MinKey | MaxKey)
    if left[0] != right[0] and not unbounded:
        return False
    match name:
        case "$gt":
            return left > right
        case "$gte":
            return left >= right
        case "$lt":
            return left < right
    return left <= right
