"""For whoever runs the pods."""

from __future__ import annotations

import time

from apipod.health import Live, Ready, Stats
from apipod.metrics import metrics
from apipod.operation import Answer, Call, Operation
from apipod.services import Services
from chatkernel.metrics import CONTENT_TYPE, exposition, rss_kib


async def live(services: Services, call: Call) -> Live:
    return Live()


async def ready(services: Services, call: Call) -> Answer:
    state = await services.health.ready()
    return Answer(state, 200 if state.ready else 503)


async def stats(services: Services, call: Call) -> Stats:
    responses = services.responses
    return Stats(
        pod=services.settings.pod,
        revision=services.settings.revision,
        requests=responses.total(),
        errors=sum(count for status, count in responses.items() if status >= 500),
        rss_kib=rss_kib(),
        cpu_s=round(time.process_time(), 3),
        uptime_s=services.health.uptime_s(),
        degraded=await _degraded(services),
    )


async def figures(services: Services, call: Call) -> Answer:
    text = exposition(metrics(services, await _degraded(services)))
    return Answer(text, 200, {"content-type": CONTENT_TYPE})


async def _degraded(services: Services) -> list[str]:
    state = await services.health.ready()
    return state.degraded if state.ready else [*state.degraded, "store"]


OPERATIONS = (
    Operation(
        "GET",
        "/healthz",
        "live",
        "Whether the process lives",
        live,
        answer=Live,
        public=True,
        throttled=False,
        tag="operations",
    ),
    Operation(
        "GET",
        "/readyz",
        "ready",
        "Whether the pod can serve, and what it lacks",
        ready,
        answer=Ready,
        other_answers={503: Ready},
        public=True,
        throttled=False,
        tag="operations",
    ),
    Operation(
        "GET",
        "/statz",
        "stats",
        "Figures of this pod",
        stats,
        answer=Stats,
        public=True,
        throttled=False,
        tag="operations",
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "The same for Prometheus",
        figures,
        answer=bytes,
        answer_type="text/plain",
        public=True,
        throttled=False,
        tag="operations",
    ),
)
