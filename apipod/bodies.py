"""From bytes of strangers to typed requests: every refusal is an error of the catalogue."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.httplayer import ClientGone, header
from chatkernel.protocol import Limits
from chatkernel.validation import FIELD_MAX_CHARS, field_of

DISCARD_MAX_BYTES = 4 * 1024 * 1024
DISCARD_FOR_S = 2.0
DISCARD_IDLE_S = 0.1
"""How much of a refused body is taken off a sender, for how long, and how long it may pause."""

PATH_PARAMETER_MAX_CHARS = 128

T = TypeVar("T")

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""Strings, a last one without its end too: an end that is missing would be looked for again from every quote that
follows, and the time grow with the square of the size. Possessive, so nothing is tried twice."""
_NOT_BRACKETS = re.compile(rb"[^][{}]+")


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body, chunked or not. Raises ChatError(TOO_LARGE | TOO_SLOW), ClientGone."""
    max_bytes = limits.body_max_bytes
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > max_bytes:
        if header(scope, b"expect") is None:
            await _discard(receive)
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await _read(receive, max_bytes)
    except TimeoutError as error:
        limit_s = limits.body_timeout_s
        detail = f"The body did not arrive within {limit_s:g} s"
        raise ChatError(Code.TOO_SLOW, detail, field="body", limit=int(limit_s)) from error


async def _read(receive: Receive, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        more = message.get("more_body", False)
        if size > max_bytes:
            if more:
                await _discard(receive)
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not more:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _discard(receive: Receive) -> None:
    """Take a little more of a body that is refused: a connection that is closed on a sender in full flow is reset,
    and the answer lost with it."""
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_FOR_S):
            while taken < DISCARD_MAX_BYTES:
                async with asyncio.timeout(DISCARD_IDLE_S):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _too_large(max_bytes: int) -> ChatError:
    return ChatError(
        Code.TOO_LARGE, f"The body may have at most {max_bytes} bytes", field="body", limit=max_bytes
    )


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
