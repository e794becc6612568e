"""What every HTTP service does round its handlers: every failure becomes a problem document, never a traceback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkernel.errors import ChatError, Code
from chatkernel.problems import PROBLEM_TYPE, Headers, encode_problem, error_headers

log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client closed the connection before its request was complete: there is nobody to answer."""


class MethodNotAllowed(ChatError):
    """With the methods that are."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(Code.METHOD_NOT_ALLOWED)
        self.allowed = tuple(allowed)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def problem_headers(error: ChatError) -> Headers:
    """All headers of a problem document's answer but its length."""
    extra = {"allow": ", ".join(error.allowed)} if isinstance(error, MethodNotAllowed) else None
    return [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"cache-control", b"no-store"),
        *error_headers(error, extra),
    ]


async def send_problem(send: Send, error: ChatError) -> None:
    await respond(send, error.status, encode_problem(error), problem_headers(error))


async def refuse_socket(send: Send, error: ChatError) -> None:
    """Instead of accepting a WebSocket: the same document."""
    await send(
        {
            "type": "websocket.http.response.start",
            "status": error.status,
            "headers": problem_headers(error),
        }
    )
    await send({"type": "websocket.http.response.body", "body": encode_problem(error)})


async def unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    """What a router calls when nothing matches. Raises ChatError(NOT_FOUND), which `Problems` answers."""
    if scope["type"] == "websocket":
        await refuse_socket(send, ChatError(Code.NOT_FOUND))
        return
    if scope["type"] != "http":
        raise RuntimeError(f"no {scope['type']} here")
    raise ChatError(Code.NOT_FOUND)


class Problems:
    """Answers whatever is raised below it. `count` is told each response's status."""

    def __init__(self, app: ASGIApp, count: Callable[[int], None] | None = None) -> None:
        self._app, self._count = app, count
        self._logs = log.isEnabledFor(logging.DEBUG)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._count is not None:
                    self._count(message["status"])
                if self._logs:
                    log.debug("request", extra=_line_of(scope, message["status"]))
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientGone:
            return
        except ChatError as error:
            await self._answer(error, started, watched)
        except Exception:
            log.exception("request.failed", extra={"method": scope["method"], "path": scope["path"]})
            await self._answer(ChatError(Code.INTERNAL), started, watched)

    async def _answer(self, error: ChatError, started: bool, send: Send) -> None:
        if started:
            log.error("request.failed_after_answer", extra={"code": error.code})
            return
        await send_problem(send, error)


def _line_of(scope: Scope, status: int) -> dict[str, object]:
    """Without the query: it may hold user names."""
    return {"method": scope["method"], "path": scope["path"], "status": status}
