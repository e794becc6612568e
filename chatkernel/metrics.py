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


Labels = tuple[tuple[str, str], ...]
"""Names and values."""


def lines_of(name: str, kind: str, help: str, values: Iterable[tuple[Labels, float | None]]) -> list[str]:
    """One figure's. A value that is None is left out."""
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for labels, value in values:
        if value is not None:
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            lines.append(f"{name}{{{shown}}} {value:.10g}" if shown else f"{name} {value:.10g}")
    return lines


def text_of(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text."""
    lines: list[str] = []
    for metric in metrics:
        labelled: list[tuple[Labels, float | None]] = [
            (((metric.label, text),) if metric.label else (), value) for text, value in metric.values.items()
        ]
        lines += lines_of(metric.name, metric.kind, metric.help, labelled)
    return text_of(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
