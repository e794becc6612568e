"""The operator's own HTTP: whether it lives, whether it hears the API server, what it counts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatoperator.kube.metrics import CONTENT_TYPE, Family, render


def make_app(is_ready: Callable[[], bool], families: Callable[[], list[Family]]) -> Starlette:
    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        ready = is_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(render(families()), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)],
    )


def make_server(app: Starlette) -> uvicorn.Server:
    """Signals are not its business: whoever runs it ends it by cancelling."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn").setLevel("WARNING")
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    return server


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
