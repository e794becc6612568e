"""The prober's routes."""

from __future__ import annotations

from starlette.applications import Starlette

from chatkernel.metrics import exposition
from chatkernel.operations import Readiness, operations_app
from prober.metrics import metrics
from prober.probe import Probe


def make_app(probe: Probe) -> Starlette:
    def readiness() -> Readiness:
        # Whatever is away: that nothing is known has to be told, too.
        return Readiness(True, {"ready": True, "unknown": probe.report().unknown})

    return operations_app(readiness, lambda: exposition(metrics(probe)), probe.report)
