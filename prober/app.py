"""The prober's routes."""

from __future__ import annotations

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatkernel.metrics import CONTENT_TYPE, exposition
from prober.metrics import metrics
from prober.probe import Probe


def make_app(probe: Probe) -> Starlette:
    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        # Whatever is away: that nothing is known has to be told, too.
        return _json({"ready": True, "unknown": probe.report().unknown})

    async def statz(_: Request) -> Response:
        return _json(probe.report())

    async def figures(_: Request) -> Response:
        return Response(exposition(metrics(probe)), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/statz", statz),
            Route("/metrics", figures),
        ]
    )


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
