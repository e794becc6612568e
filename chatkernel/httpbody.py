"""Reading the body of a request of whatever size and speed, on every kind of pod."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive, Scope

from chatkernel.errors import ChatError, Code
from chatkernel.httplayer import ClientGone, header
from chatkernel.protocol import Limits

DISCARD_MAX_BYTES = 4 * 1024 * 1024
DISCARD_FOR_S = 2.0
DISCARD_IDLE_S = 0.1
"""How much of a refused body is taken off a sender, for how long, and how long it may pause."""


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
