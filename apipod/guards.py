"""Only allowed web origins get in."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatkernel.errors import ChatError, Code
from chatkernel.httplayer import Problems, header, respond
from chatkernel.origins import AllowedOrigins
from chatkernel.problems import Headers

PREFLIGHT_MAX_AGE_S = 600
_EXPOSED = b"Retry-After, ETag, Location"
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, If-Match, X-Device-Id"),
    (b"access-control-max-age", str(PREFLIGHT_MAX_AGE_S).encode()),
]


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
        await Problems(self._app)(scope, receive, with_cors)
