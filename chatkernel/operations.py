"""What a process serves that people never ask: whether it lives and is ready, and what it counts."""

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

from chatkernel.metrics import CONTENT_TYPE


class Readiness(msgspec.Struct, frozen=True):
    """`told` is answered as JSON, with 503 unless `ready`."""

    ready: bool
    told: object


def operations_app(
    readiness: Callable[[], Readiness],
    figures: Callable[[], bytes],
    stats: Callable[[], object] | None = None,
) -> Starlette:
    """`figures`: Prometheus' text. `stats`: for `/statz`, where there is one."""

    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        found = readiness()
        return _json(found.told, 200 if found.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(figures(), media_type=CONTENT_TYPE)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    if stats is not None:
        tell = stats

        async def statz(_: Request) -> Response:
            return _json(tell())

        routes.append(Route("/statz", statz))
    return Starlette(routes=routes)


def operations_server(app: Starlette) -> uvicorn.Server:
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
    return uvicorn.Server(config)


def leave_signals(server: uvicorn.Server) -> None:
    """Whoever runs it decides when it ends."""
    server.capture_signals = _no_signals  # type: ignore[method-assign]


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
