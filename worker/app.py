"""The worker's own routes: whether it lives, what is away, what it has done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatkernel.settings import ServiceSettings
from worker.work import working


def make_app(settings: ServiceSettings) -> Starlette:
    """Works while its lifespan runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with working(settings) as work:

            async def readyz(_: Request) -> Response:
                # Degraded is ready all the same: nobody can do this worker's work better while Redis is away.
                ready = work.ready
                return _json({"ready": ready, "degraded": work.degraded()}, 200 if ready else 503)

            async def statz(_: Request) -> Response:
                return _json(work.stats())

            app.router.routes += [Route("/readyz", readyz), Route("/statz", statz)]
            yield

    async def healthz(_: Request) -> Response:
        return _json({"live": True})

    return Starlette(routes=[Route("/healthz", healthz)], lifespan=lifespan)


def _json(content: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
