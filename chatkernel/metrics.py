"""Figures of a service in Prometheus' text format. Nothing of people is in them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from chatkernel.live import LiveFile

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metric(Struct, frozen=True):
    """`values`: by the value of the label `label`; without a label there is one, of "". None is left out."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    values: Mapping[str, float | None]
    label: str = ""


def counter(name: str, help: str, value: float) -> Metric:
    return Metric(name, "counter", help, {"": value})


def gauge(name: str, help: str, value: float | None) -> Metric:
    return Metric(name, "gauge", help, {"": value})


def parts_away(degraded: Iterable[str]) -> Metric:
    """What a service lacks while it goes on."""
    return Metric(
        "chat_degraded", "gauge", "What is away, or does not work", dict.fromkeys(degraded, 1), "part"
    )


def settings_refused(live_file: LiveFile | None) -> Metric:
    text = "1: what stands in the file of live settings is not in force"
    return gauge("chat_live_settings_refused", text, live_file is not None and live_file.refused)


def of_process() -> list[Metric]:
    """Under the names that Prometheus' own libraries give them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return [
        gauge("process_resident_memory_bytes", "Resident memory", rss_kib() * 1024),
        counter("process_cpu_seconds_total", "CPU time", usage.ru_utime + usage.ru_stime),
    ]


def rss_kib() -> int:
    """Resident memory now where the system tells (Linux), else its peak."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        for labelled, value in metric.values.items():
            if value is not None:
                labels = f'{{{metric.label}="{_escaped(labelled)}"}}' if metric.label else ""
                lines.append(f"{metric.name}{labels} {value:.10g}")
    return ("\n".join(lines) + "\n").encode()


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
