"""The ASGI application of an API pod: routes from operations, the guards round them, parts started and
stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from apipod.endpoint import Endpoint
from apipod.guards import Origins
from apipod.openapi import openapi
from apipod.operation import Operation
from apipod.resources import OPERATIONS
from apipod.services import Services
from chatkernel.asyncapi import asyncapi
from chatkernel.httplayer import MethodNotAllowed, Problems, respond, unknown_path
from chatkernel.settings import ServiceSettings


class Document:
    """A generated document, encoded once. The limits that one shows may change: then it is `set` again."""

    def __init__(self, content: dict[str, object]) -> None:
        self.set(content)

    def set(self, content: dict[str, object]) -> None:
        self._body = msgspec.json.encode(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(["GET", "HEAD"])
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"max-age=60")]
        await respond(send, 200, self._body, headers)


def build_app(services: Services) -> Starlette:
    """Answers while its lifespan runs, which starts and stops `services`."""
    settings = services.settings
    url = public_url(settings)
    routes = [
        Route(path, Endpoint(services, operations)) for path, operations in _by_path(OPERATIONS).items()
    ]
    routes.append(Route("/openapi.json", Document(openapi(OPERATIONS, url))))
    sockets = Document({})
    services.live.follow(lambda: sockets.set(asyncapi(services.live.limits)))
    routes.append(Route("/asyncapi.json", sockets))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await services.start()
        try:
            yield
        finally:
            await services.aclose()

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Problems, count=services.count),
            Middleware(Origins, allowed=settings.auth.allowed_origins),
        ],
        lifespan=lifespan,
    )
    app.router.default = unknown_path
    # A path with a stray slash is another path: nothing is redirected.
    app.router.redirect_slashes = False
    return app


def public_url(settings: ServiceSettings) -> str:
    """Where clients reach the API."""
    return settings.public_url or f"http://{settings.host}:{settings.port}"


def _by_path(operations: tuple[Operation, ...]) -> dict[str, list[Operation]]:
    paths: dict[str, list[Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, []).append(operation)
    return paths
