"""RFC 9457 problem documents: the one shape of every error answered by HTTP, a refused WebSocket handshake's too."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from chatkernel.errors import CATALOGUE, ChatError, Code
from chatkernel.protocol import Error

PROBLEM_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:chatcluster:error:"

_encoder = msgspec.json.Encoder()

Headers = list[tuple[bytes, bytes]]


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error of the catalogue. `field` is a path such as `members[3]`; `retry_after_s` is in seconds."""

    type: str
    title: str
    status: int
    detail: str
    code: Code
    retryable: bool
    field: str | None = None
    limit: int | None = None
    retry_after_s: float | None = None


def problem_of(error: ChatError) -> Problem:
    return Problem(
        type=TYPE_PREFIX + error.code,
        title=CATALOGUE[error.code].meaning,
        status=error.status,
        detail=error.detail,
        code=error.code,
        retryable=error.retryable,
        field=error.field,
        limit=error.limit,
        retry_after_s=error.retry_after_s,
    )


def encode_problem(error: ChatError) -> bytes:
    return _encoder.encode(problem_of(error))


def error_headers(error: ChatError, extra: Mapping[str, str] | None = None) -> Headers:
    """What HTTP itself wants to be told beside the document: when to come back, how to authenticate."""
    headers: Headers = []
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.code in (Code.TOO_LARGE, Code.HEAD_TOO_LARGE, Code.TOO_SLOW):
        # The rest of the request is not read: the connection cannot be used again.
        headers.append((b"connection", b"close"))
    if extra:
        headers.extend((name.lower().encode(), value.encode()) for name, value in extra.items())
    return headers


def error_frame(frame_id: str | None, error: ChatError) -> Error:
    """The same error as a frame, for what was asked as a frame."""
    retry_after_ms = None if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s * 1000))
    return Error(
        id=frame_id,
        code=error.code,
        detail=error.detail,
        retryable=error.retryable,
        field=error.field,
        limit=error.limit,
        retry_after_ms=retry_after_ms,
    )
