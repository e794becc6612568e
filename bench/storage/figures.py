"""What the windows say: flat keys, targets, the tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.table import Table

from bench.plans import Window, merged, middle_percentile_ms, undisturbed
from bench.report import Target, at_least, at_most, short_of, shown
from bench.storage.timing import POD, STORE

GROUPED_PER_CPU_S = at_least(8_000)
READ_P99_MS = at_most(5)
GROWTH = at_most(3)
"""The median of the largest size to that of the smallest. A tree that is two levels higher, and pages that have to be
asked of the system because the connection's own cache is smaller than the data, are within it; what is read in
proportion is not: it would be a thousand."""
GROWING = ("newest_page", "sync", "sync_many", "around", "unread_1000", "membership", "append_64x1000")
READ_TARGETS = ("newest_page", "sync")
RELATIONAL = ("sqlite", "postgres")


_KEY = re.compile(r"(?P<store>[a-z]+)_(?P<size>\d+e\d+|\d+)_(?P<what>.+)")


def size_name(size: int) -> str:
    """10000 as 1e4, 2500 as 25e2."""
    digits = str(size).rstrip("0")
    zeros = len(str(size)) - len(digits)
    return f"{digits}e{zeros}" if zeros else digits


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
    found = {
        f"{largest}_append_64x{channels}_per_cpu_s": GROUPED_PER_CPU_S
        for channels in (1, 1000)
        if channels == 1 or f"{largest}_append_to_all_left_out" not in results
    }
    if store in RELATIONAL:
        found |= {f"{largest}_{name}_p99_ms": READ_P99_MS for name in READ_TARGETS}
        found |= {key: GROWTH for key in results if key.startswith(store) and key.endswith("_growth")}
    found[f"{store}_plan_faults"] = at_most(0)
    return found


def missed(results: dict[str, object], wanted: Mapping[str, Target], *, is_part: bool) -> list[str]:
    """Targets that were not reached. `is_part`: not all was to be measured, and what was not is not asked for."""
    return [key for key in short_of(results, wanted) if key in results or not is_part]


_TABLES = (
    ("Milliseconds of a call that is alone: half of them / 99 of 100", ("p50_ms", "p99_ms"), " / "),
    ("Appends per second, and per CPU-second of the pod", ("per_s", "per_cpu_s"), " / "),
    ("Microseconds of CPU per call or event: the pod's + the store's", ("pod_us", "store_us"), " + "),
)


def tables(results: dict[str, object]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Stores and sizes side by side: a title, the head, and rows that begin with what was measured."""
    keys = [found for found in map(_KEY.fullmatch, results) if found is not None]
    sides = list(
        dict.fromkeys((found["store"], found["size"]) for found in keys if found["what"].endswith("_ms"))
    )
    names = list(dict.fromkeys(found["what"] for found in keys))
    for title, ends, between in _TABLES:
        measured = [name.removesuffix(f"_{ends[0]}") for name in names if name.endswith(f"_{ends[0]}")]
        lines = []
        for what in measured:
            cells = [[results.get(f"{store}_{size}_{what}_{end}") for end in ends] for store, size in sides]
            lines.append([what, *(_cell(values, between) for values in cells)])
        if lines:
            yield title, ["", *(f"{store} {size}" for store, size in sides)], lines


def _cell(values: Sequence[object], between: str) -> str:
    return "" if None in values else between.join(shown(_short(value)) for value in values)


def _short(value: object) -> object:
    return round(value, 2) if isinstance(value, float) else value


def side_by_side(results: dict[str, object]) -> Iterator[Table]:
    for title, head, lines in tables(results):
        grid = Table(title=title, title_justify="left")
        for name in head:
            grid.add_column(name, justify="right" if name else "left")
        for line in lines:
            grid.add_row(*line)
        yield grid


def markdown(results: dict[str, object]) -> str:
    """The same for the documentation, with the machine."""
    machine = results["machine"]
    assert isinstance(machine, dict)
    said = ", ".join(f"{machine[name]} {words}".strip() for name, words in _MACHINE.items())
    found: list[str] = [f"On {said}; load before: {machine['load_before'][0]}.", ""]
    for title, head, lines in tables(results):
        found += [f"{title}:", "", f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
        found += [f"| {' | '.join(line)} |" for line in lines] + [""]
    return "\n".join(found)


_MACHINE = {"cpu": "", "cores": "cores", "memory_gib": "GiB", "system": "", "python": "(Python)"}
