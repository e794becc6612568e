"""An API pod's figures for Prometheus."""

from __future__ import annotations

from apipod.services import Services
from chatkernel.metrics import Metric, gauge, of_process, parts_away, settings_refused


def metrics(services: Services, degraded: list[str]) -> list[Metric]:
    answers = {str(status): float(count) for status, count in sorted(services.responses.items())}
    return [
        Metric("chat_http_responses_total", "counter", "Answers to HTTP requests", answers, "status"),
        gauge("chat_uptime_seconds", "Since it began", services.health.uptime_s()),
        settings_refused(services.kernel.live_file),
        parts_away(degraded),
        *of_process(),
    ]
