"""The pod's routes: health, statistics, operations, and the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from chatkernel.opstoken import check_ops_token
from chatkernel.settings import PositiveSeconds
from chatpod.endpoint import SocketEndpoint
from chatpod.pod import Pod


class DrainRequest(Struct):
    """`shed`: move only so many; absent: everyone. The others: as the pod's settings say when absent."""

    shed: Annotated[int, Meta(ge=1)] | None = None
    deadline_s: PositiveSeconds | None = None
    rate_per_s: PositiveSeconds | None = None


def make_app(start_pod: Callable[[], AsyncIterator[Pod]]) -> Starlette:
    """`start_pod` runs on the serving loop and yields the pod once; it stops it when resumed."""
    routes: list[Route | WebSocketRoute] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async for pod in start_pod():
            # The socket is mounted as a raw ASGI application: Starlette's WebSocket object costs a fifth.
            app.router.routes.extend(_routes(pod))
            yield

    return Starlette(routes=routes, lifespan=lifespan)


def _routes(pod: Pod) -> list[Route | WebSocketRoute]:
    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        return _json({"ready": pod.ready, "degraded": pod.degraded()}, 200 if pod.ready else 503)

    async def statz(_: Request) -> Response:
        return _json(pod.stats())

    async def drain(request: Request) -> Response:
        if not check_ops_token(pod.kernel.secrets, request.headers.get("authorization")):
            return _json({"code": "unauthenticated"}, 401)
        try:
            wanted = msgspec.json.decode(await request.body() or b"{}", type=DrainRequest)
        except msgspec.DecodeError:
            return _json({"code": "malformed"}, 400)
        if wanted.shed is not None:
            pod.drainer.shed(wanted.shed, wanted.rate_per_s)
        else:
            pod.drainer.drain(wanted.deadline_s, wanted.rate_per_s)
            pod.lease.renew_soon()
        return _json(pod.stats())

    async def undrain(request: Request) -> Response:
        if not check_ops_token(pod.kernel.secrets, request.headers.get("authorization")):
            return _json({"code": "unauthenticated"}, 401)
        pod.drainer.undrain()
        pod.lease.renew_soon()
        return _json(pod.stats())

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/statz", statz),
        Route("/drain", drain, methods=["POST"]),
        Route("/undrain", undrain, methods=["POST"]),
        WebSocketRoute("/v1/socket", SocketEndpoint(pod)),
    ]


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")
