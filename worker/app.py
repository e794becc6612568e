"""The worker's own routes: whether it lives, what is away, what it has done."""

from __future__ import annotations

from starlette.applications import Starlette

from chatkernel.metrics import exposition
from chatkernel.operations import Readiness, operations_app
from worker.metrics import metrics
from worker.work import Work


def make_app(work: Work) -> Starlette:
    def readiness() -> Readiness:
        # Degraded is ready all the same: nobody can do this worker's work better while Redis is away.
        ready = work.ready
        return Readiness(ready, {"ready": ready, "degraded": work.degraded()})

    return operations_app(readiness, lambda: exposition(metrics(work)), work.stats)
