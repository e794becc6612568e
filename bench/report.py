"""The targets, the table on the terminal, and `latest.json`."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Target:
    """`better`: how the value stands to the target when it is reached."""

    value: float
    better: Callable[[float, float], bool]

    @property
    def sign(self) -> str:
        return "≥" if self.better is operator.ge else "≤"


def at_least(value: float) -> Target:
    return Target(value, operator.ge)


def at_most(value: float) -> Target:
    return Target(value, operator.le)


TARGETS: dict[str, Target] = {
    "hot_room_deliveries_per_cpu_s": at_least(300_000),
    "spread_busy_deliveries_per_cpu_s": at_least(150_000),
    "spread_deliveries_per_cpu_s": at_least(0),
    "spread_share_of_kernel_limit": at_least(0.6),
    "durable_messages_per_cpu_s": at_least(4_000),
    "idle_kib_per_connection": at_most(28),
    "half_load_p50_ms": at_most(3),
    "half_load_p99_ms": at_most(10),
    "cross_pod_p99_ms": at_most(15),
    "reconnects_per_s": at_least(300),
    "connects_per_cpu_s": at_least(800),
    "sync_pages_per_cpu_s": at_least(1_000),
    "seats_per_cpu_s": at_least(1_000),
    "bus_writes_per_message": at_most(1.05),
}
"""The issue's table, in its order. `spread_deliveries_per_cpu_s` has its target in the share."""

NO_TARGET = {"spread_deliveries_per_cpu_s"}


def rounded(value: object) -> object:
    if not isinstance(value, float):
        return value
    return round(value) if abs(value) >= 100 else round(value, 3)


def shown(value: object) -> str:
    value = rounded(value)
    return (
        f"{value:,}".replace(",", " ")
        if isinstance(value, int | float) and not isinstance(value, bool)
        else str(value)
    )


def short_of(results: dict[str, object], targets: Mapping[str, Target] = TARGETS) -> list[str]:
    """The keys whose target is missed (or that are not there)."""
    missed = []
    for key, target in targets.items():
        value = results.get(key)
        if not isinstance(value, int | float) or not target.better(float(value), target.value):
            missed.append(key)
    return missed


def table(results: dict[str, object], mode: str, targets: Mapping[str, Target] = TARGETS) -> Table:
    grid = Table(title=f"ChatCluster bench ({mode})", title_justify="left")
    grid.add_column("key")
    grid.add_column("value", justify="right")
    grid.add_column("target", justify="right")
    grid.add_column("")
    missed = set(short_of(results, targets))
    for key, target in targets.items():
        if key not in results:
            continue
        if key in NO_TARGET:
            grid.add_row(key, shown(results[key]), "-", "")
            continue
        verdict = "[red]short" if key in missed else "[green]ok"
        grid.add_row(key, shown(results[key]), f"{target.sign} {shown(target.value)}", verdict)
    grid.add_section()
    for key, value in results.items():
        if key not in targets:
            grid.add_row(f"[dim]{key}", f"[dim]{shown(value)}", "", "")
    return grid


def publish(
    results: dict[str, object], mode: str, machine: dict[str, object], path: Path, console: Console
) -> None:
    write(results, mode, machine, path)
    console.print(table(results, mode))


def write(
    results: dict[str, object],
    mode: str,
    machine: dict[str, object],
    path: Path,
    targets: Mapping[str, Target] = TARGETS,
) -> None:
    document = {
        "mode": mode,
        "machine": machine,
        **{key: rounded(value) if value == value else None for key, value in results.items()},
        "short_of_target": short_of(results, targets),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n")
