"""The worker's own routes: whether it lives, what is away, what it has done."""

from __future__ import annotations

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatkernel.metrics import CONTENT_TYPE, exposition
from worker.metrics import metrics
from worker.work import Work


def make_app(work: Work) -> Starlette:
    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        # Degraded is ready all the same: nobody can do this worker's work better while Redis is away.
        ready = work.ready
        return _json({"ready": ready, "degraded": work.degraded()}, 200 if ready else 503)

    async def statz(_: Request) -> Response:
        return _json(work.stats())

    async def figures(_: Request) -> Response:
        return Response(exposition(metrics(work)), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/statz", statz),
            Route("/metrics", figures),
        ],
    )


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
