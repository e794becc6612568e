"""The prober's figures for Prometheus."""

from __future__ import annotations

from chatkernel.metrics import Metric, counter, gauge, of_process, parts_away
from prober.probe import Probe, percentile

_QUANTILES = (0.5, 0.9, 0.99)


def metrics(probe: Probe) -> list[Metric]:
    report, judge, now = probe.report(), probe.judge, probe.monotonic()
    latencies = judge.latencies_ms(now)
    quantiles = {str(share): _seconds(percentile(latencies, share)) for share in _QUANTILES}
    pods = {name: float(pod.ok) for name, pod in report.pods.items()}
    return [
        Metric(
            "chat_probe_delivery_seconds",
            "gauge",
            "From a send to its arrival at another connection, in the last minute",
            quantiles,
            "quantile",
        ),
        counter("chat_probe_sent_total", "Messages sent", probe.sent),
        counter("chat_probe_deliveries_total", "Arrivals", judge.deliveries),
        counter("chat_probe_gaps_total", "Arrivals that did not come in time", judge.gaps_total),
        Metric("chat_probe_pod_delivers", "gauge", "0: it does not; unknown ones are left out", pods, "pod"),
        gauge("chat_probe_discovery_ok", "1: a seat was given, and carried a message", report.discovery_ok),
        parts_away(report.unknown),
        *of_process(),
    ]


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
