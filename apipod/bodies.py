"""From bytes of strangers to typed requests: every refusal is an error of the catalogue."""

from __future__ import annotations

import re
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.validation import FIELD_MAX_CHARS, field_of

PATH_PARAMETER_MAX_CHARS = 128

T = TypeVar("T")

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Strings, a last one without its end too: an end that is missing would be looked for again from every quote that
follows, and the time grow with the square of the size. Possessive, so nothing is tried twice."""
_NOT_BRACKETS = re.compile(rb"[^][{}]+")


def check_nesting(data: bytes, max_depth: int) -> None:
    """Refuse a document nested deeper than `max_depth`, before a recursive decoder sees it. Raises
    ChatError."""
    if data.count(b"{") + data.count(b"[") <= max_depth:
        return
    depth = 0
    for bracket in _NOT_BRACKETS.sub(b"", _STRINGS.sub(b"", data)):
        if bracket in b"{[":
            depth += 1
            if depth > max_depth:
                raise invalid("body", f"is nested deeper than {max_depth} levels", max_depth)
        else:
            depth -= 1


def decode_json(decoder: msgspec.json.Decoder[T], data: bytes, max_depth: int) -> T:
    """Raises ChatError(MALFORMED | INVALID_FIELD | UNKNOWN_TYPE), naming field and limit."""
    check_nesting(data, max_depth)
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise field_of(error) from error
    except msgspec.DecodeError as error:
        raise ChatError(Code.MALFORMED, f"The body is not a JSON document: {error}", field="body") from error
    except UnicodeDecodeError as error:
        raise ChatError(Code.MALFORMED, "The body is not UTF-8", field="body") from error
    except RecursionError as error:
        raise invalid("body", f"is nested deeper than {max_depth} levels", max_depth) from error


def decode_query(kind: type[T], query_string: bytes) -> T:
    """Query parameters as a struct; the last of a repeated name counts. Raises ChatError."""
    try:
        values = dict(parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict"))
    except ValueError as error:
        detail = "The query string is not percent-encoded UTF-8"
        raise ChatError(Code.MALFORMED, detail, field="query") from error
    for name, value in values.items():
        if "\0" in value:
            raise invalid(name[:FIELD_MAX_CHARS], "may not hold a NUL character")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise field_of(error) from error


def check_path_parameters(parameters: dict[str, str]) -> None:
    """Ids that cannot exist are not found, whatever a store would make of them. Raises
    ChatError(NOT_FOUND)."""
    for name, value in parameters.items():
        if len(value) > PATH_PARAMETER_MAX_CHARS or not value.isprintable():
            raise ChatError(Code.NOT_FOUND, field=name)
