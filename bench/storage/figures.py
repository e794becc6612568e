"""What the windows say: flat keys, targets, the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from rich.table import Table

from bench.plans import Window, merged, middle_percentile_ms, undisturbed
from bench.report import Target, at_least, at_most, shown
from bench.storage.timing import POD, STORE

GROUPED_PER_CPU_S = at_least(8_000)
READ_P99_MS = at_most(5)
GROWTH = at_most(2)
"""The median of the largest size to that of the smallest. A tree that is two levels higher, and pages that are not in
the processor's own caches any more, are within it; anything that is read in proportion is not: it would be a
thousand."""
GROWING = ("newest_page", "sync", "sync_many", "around", "unread_1000", "membership", "append_64x1000")
READ_TARGETS = ("newest_page", "sync")
RELATIONAL = ("sqlite", "postgres")


def size_name(size: int) -> str:
    """10000 as 1e4; what is no power of ten as it is."""
    zeros = len(str(size)) - 1
    return f"1e{zeros}" if size == 10**zeros else str(size)


def figures(prefix: str, windows: Sequence[Window], *, rates: bool) -> dict[str, object]:
    """Latency is that of the middle window; all of them merged stand beside it. Microseconds of CPU are per call or
    event."""
    calm = undisturbed(windows)
    whole = merged(calm)
    found: dict[str, object] = {
        f"{prefix}_p50_ms": middle_percentile_ms(calm, 0.5),
        f"{prefix}_p99_ms": middle_percentile_ms(calm, 0.99),
        f"{prefix}_p99_all_ms": merged(windows).percentile_ms(0.99),
        f"{prefix}_pod_us": whole.cpu_s[POD] / max(1, whole.acks) * 1e6,
        f"{prefix}_store_us": whole.cpu_s[STORE] / max(1, whole.acks) * 1e6,
    }
    if rates:
        found[f"{prefix}_per_s"] = median([each.acks / each.wall_s for each in calm])
        found[f"{prefix}_per_cpu_s"] = median([each.acks / each.cpu_s[POD] for each in calm])
    return found


def growth(results: dict[str, object], store: str, sizes: Sequence[int]) -> dict[str, object]:
    """How the largest size stands to the smallest."""
    found: dict[str, object] = {}
    if len(sizes) < 2:
        return found
    for name in GROWING:
        least, most = (
            results.get(f"{store}_{size_name(size)}_{name}_p50_ms") for size in (sizes[0], sizes[-1])
        )
        if isinstance(least, float) and isinstance(most, float):
            found[f"{store}_{name}_growth"] = most / least
    return found


def targets(results: dict[str, object], store: str, sizes: Sequence[int]) -> dict[str, Target]:
    """At the largest size that was measured."""
    largest = f"{store}_{size_name(sizes[-1])}"
    found = {f"{largest}_append_64x{channels}_per_cpu_s": GROUPED_PER_CPU_S for channels in (1, 1000)}
    if store in RELATIONAL:
        found |= {f"{largest}_{name}_p99_ms": READ_P99_MS for name in READ_TARGETS}
        found |= {key: GROWTH for key in results if key.startswith(store) and key.endswith("_growth")}
    found[f"{store}_plan_faults"] = at_most(0)
    return found


def columns(results: dict[str, object]) -> list[tuple[str, str]]:
    """Store and size, of all that was measured."""
    found = dict.fromkeys(tuple(key.split("_", 2)[:2]) for key in results if "_1e" in key)
    return [(store, size) for store, size in found]


def rows(results: dict[str, object]) -> Iterable[tuple[str, list[object]]]:
    """Side by side: what was measured, and its value in each column."""
    sides = columns(results)
    names = dict.fromkeys(key.split("_", 2)[2] for key in results if "_1e" in key)
    for name in names:
        yield name, [results.get(f"{store}_{size}_{name}") for store, size in sides]


_SHOWN = ("_p50_ms", "_p99_ms", "_per_s", "_per_cpu_s", "_pod_us", "_store_us")


def side_by_side(results: dict[str, object]) -> Table:
    grid = Table(title="Stores side by side", title_justify="left")
    grid.add_column("")
    for store, size in columns(results):
        grid.add_column(f"{store} {size}", justify="right")
    for name, values in rows(results):
        if name.endswith(_SHOWN):
            grid.add_row(name, *("" if value is None else shown(value) for value in values))
    return grid


def markdown(results: dict[str, object]) -> str:
    """The same for the documentation."""
    sides = columns(results)
    lines = ["| | " + " | ".join(f"{store} {size}" for store, size in sides) + " |"]
    lines.append("|---" * (len(sides) + 1) + "|")
    for name, values in rows(results):
        if name.endswith(_SHOWN):
            cells = ("" if value is None else shown(value) for value in values)
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
