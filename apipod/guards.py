"""The outermost layers: every failure becomes a problem document, and only allowed web origins get in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apipod.bodies import ClientGone, header
from apipod.endpoint import MethodNotAllowed, respond
from chatkernel.errors import ChatError, Code
from chatkernel.origins import AllowedOrigins
from chatkernel.problems import PROBLEM_TYPE, Headers, encode_problem, error_headers

log = logging.getLogger(__name__)

PREFLIGHT_MAX_AGE_S = 600
_EXPOSED = b"Retry-After, ETag, Location"
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, If-Match, X-Device-Id"),
    (b"access-control-max-age", str(PREFLIGHT_MAX_AGE_S).encode()),
]


async def send_problem(send: Send, error: ChatError, headers: Headers | None = None) -> None:
    extra = {"allow": ", ".join(error.allowed)} if isinstance(error, MethodNotAllowed) else None
    all_headers = [
        (b"content-type", PROBLEM_TYPE.encode()),
        (b"cache-control", b"no-store"),
        *error_headers(error, extra),
        *(headers or []),
    ]
    await respond(send, error.status, encode_problem(error), all_headers)


class Problems:
    """Answers whatever is raised below it; never a traceback. `count` is told each response's status."""

    def __init__(self, app: ASGIApp, count: Callable[[int], None]) -> None:
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


class Origins:
    """CORS for the allowed web origins; a browser of any other origin is refused before anything is done.

    A request without an `Origin` is not a browser's script and passes.
    """

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self._app, self._allowed = app, AllowedOrigins(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = header(scope, b"origin") if scope["type"] == "http" else None
        if origin is None:
            await self._app(scope, receive, send)
            return
        if not self._allowed.allows(origin):
            raise ChatError(Code.ORIGIN_NOT_ALLOWED)
        headers: Headers = [
            (b"access-control-allow-origin", origin),
            (b"vary", b"Origin"),
            (b"access-control-expose-headers", _EXPOSED),
        ]
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            await respond(send, 204, b"", [*headers, *_PREFLIGHT])
            return

        async def with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        # Problems of an allowed origin must be readable by its script: they are answered within this layer.
        await Problems(self._app, _count_nothing)(scope, receive, with_cors)


def _count_nothing(status: int) -> None:
    """The outer layer counts."""
