"""The pod's routes: health, statistics, operations, and the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from chatkernel.errors import ChatError, Code
from chatkernel.httpbody import read_body
from chatkernel.httplayer import MethodNotAllowed, Problems, respond, unknown_path
from chatkernel.metrics import CONTENT_TYPE, exposition
from chatkernel.opstoken import check_ops_token
from chatkernel.settings import SOCKET_PATH, PositiveSeconds
from chatkernel.validation import field_of
from chatpod.endpoint import SocketEndpoint
from chatpod.metrics import metrics
from chatpod.pod import Pod

Handler = Callable[[Request], Awaitable[tuple[int, Any]]]
"""From a request to a status and what is answered as JSON. Raises ChatError."""


class DrainRequest(Struct):
    """`shed`: move only so many; absent: everyone. The others: as the pod's settings say when absent."""

    shed: Annotated[int, Meta(ge=1)] | None = None
    deadline_s: PositiveSeconds | None = None
    rate_per_s: PositiveSeconds | None = None


class Endpoint:
    """One method of a path, as an ASGI application. Raises ChatError, which the outer layer answers."""

    def __init__(self, method: str, handler: Handler) -> None:
        self._allowed = ("GET", "HEAD") if method == "GET" else (method,)
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in self._allowed:
            raise MethodNotAllowed(self._allowed)
        status, content = await self._handler(Request(scope, receive))
        await respond(send, status, msgspec.json.encode(content), [(b"content-type", b"application/json")])


class Figures:
    """`/metrics`."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise MethodNotAllowed(("GET", "HEAD"))
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await respond(send, 200, exposition(metrics(self._pod)), headers)


def make_app(start_pod: Callable[[], AsyncIterator[Pod]]) -> Starlette:
    """`start_pod` runs on the serving loop and yields the pod once; it stops it when resumed."""
    routes: list[Route | WebSocketRoute] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async for pod in start_pod():
            # The socket is mounted as a raw ASGI application: Starlette's WebSocket object costs a fifth.
            app.router.routes.extend(_routes(pod))
            yield

    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.default = Problems(unknown_path)
    app.router.redirect_slashes = False
    return app


def _routes(pod: Pod) -> list[Route | WebSocketRoute]:
    async def healthz(_: Request) -> tuple[int, Any]:
        return 200, {"live": True}

    async def readyz(_: Request) -> tuple[int, Any]:
        return 200 if pod.ready else 503, {"ready": pod.ready, "degraded": pod.degraded()}

    async def statz(_: Request) -> tuple[int, Any]:
        return 200, pod.stats()

    async def drain(request: Request) -> tuple[int, Any]:
        _check_token(pod, request)
        wanted = _drain_request(await read_body(request.scope, request.receive, pod.live.limits))
        if wanted.shed is not None:
            pod.drainer.shed(wanted.shed, wanted.rate_per_s)
        else:
            pod.drainer.drain(wanted.deadline_s, wanted.rate_per_s)
            pod.lease.renew_soon()
        return 200, pod.stats()

    async def undrain(request: Request) -> tuple[int, Any]:
        _check_token(pod, request)
        pod.drainer.undrain()
        pod.lease.renew_soon()
        return 200, pod.stats()

    socket = SocketEndpoint(pod)
    # By the second each pod is reached on one host; it is no other pod's.
    paths = (SOCKET_PATH, f"/pods/{pod.settings.pod}{SOCKET_PATH}")
    return [
        _route("GET", "/healthz", healthz),
        _route("GET", "/readyz", readyz),
        _route("GET", "/statz", statz),
        Route("/metrics", Problems(Figures(pod))),
        _route("POST", "/drain", drain),
        _route("POST", "/undrain", undrain),
        *(_route("GET", path, _no_upgrade) for path in paths),
        *(WebSocketRoute(path, socket) for path in paths),
    ]


def _route(method: str, path: str, handler: Handler) -> Route:
    # Round each route and not round all: a layer round the socket would be a frame more for each that is open.
    return Route(path, Problems(Endpoint(method, handler)))


def _check_token(pod: Pod, request: Request) -> None:
    if not check_ops_token(pod.kernel.secrets, request.headers.get("authorization")):
        raise ChatError(Code.UNAUTHENTICATED, "Only the operator may ask for this", field="Authorization")


def _drain_request(body: bytes) -> DrainRequest:
    try:
        return msgspec.json.decode(body or b"{}", type=DrainRequest)
    except msgspec.ValidationError as error:
        raise field_of(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ChatError(Code.MALFORMED, "The body is not a JSON document", field="body") from error


async def _no_upgrade(_: Request) -> tuple[int, Any]:
    raise ChatError(Code.MALFORMED, "A WebSocket is opened here: send `Upgrade: websocket`", field="Upgrade")
