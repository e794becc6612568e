"""The operator's own HTTP: whether it lives, whether it hears the API server, what it counts."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from chatkernel.operations import Readiness, leave_signals, operations_app, operations_server
from chatoperator.kube.metrics import Family, render


def make_app(is_ready: Callable[[], bool], families: Callable[[], list[Family]]) -> Starlette:
    def readiness() -> Readiness:
        ready = is_ready()
        return Readiness(ready, {"ready": ready})

    return operations_app(readiness, lambda: render(families()))


def make_server(app: Starlette) -> uvicorn.Server:
    """Signals are not its business: whoever runs it ends it by cancelling."""
    server = operations_server(app)
    leave_signals(server)
    return server
