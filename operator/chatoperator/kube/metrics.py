"""What the operator counts, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

Labels = tuple[tuple[str, str], ...]
PREFIX = "chatcluster"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(Struct, frozen=True):
    name: str
    value: float
    labels: Labels = ()


class Family(Struct, frozen=True):
    """`kind`: gauge or counter."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


class Counts:
    """What only grows, for as long as the process lives."""

    def __init__(self) -> None:
        self.rounds: Counter[str] = Counter()
        """By outcome: done, skipped, failed."""
        self.round_s = 0.0
        self.actions: Counter[str] = Counter()
        """By what was done to a pod: start, drain, ..."""
        self.put_back = 0
        """Children that somebody had changed."""


def family(name: str, kind: str, text: str, values: Mapping[Labels, float]) -> Family:
    full = f"{PREFIX}_{name}"
    return Family(
        full, kind, text, tuple(Sample(full, value, labels) for labels, value in sorted(values.items()))
    )


def operator_families(
    counts: Counts, requests: Mapping[tuple[str, str, int], int], *, leading: bool, stale_watches: int
) -> list[Family]:
    """Of the operator itself."""
    asked: dict[Labels, float] = {
        (("verb", verb), ("resource", resource), ("code", str(code) if code else "none")): float(count)
        for (verb, resource, code), count in requests.items()
    }
    rounds: dict[Labels, float] = {
        (("outcome", outcome),): float(count) for outcome, count in counts.rounds.items()
    }
    actions: dict[Labels, float] = {
        (("action", action),): float(count) for action, count in counts.actions.items()
    }
    return [
        family("operator_leading", "gauge", "Whether this process holds the Lease", {(): float(leading)}),
        family(
            "operator_watches_stale", "gauge", "Watches that bring nothing now", {(): float(stale_watches)}
        ),
        family("operator_requests_total", "counter", "Requests to the API server", asked),
        family("operator_rounds_total", "counter", "Looks at a cluster", rounds),
        family("operator_round_seconds_total", "counter", "Time spent in them", {(): counts.round_s}),
        family("operator_actions_total", "counter", "What was done to chat pods", actions),
        family(
            "operator_put_back_total",
            "counter",
            "Objects that somebody had changed",
            {(): float(counts.put_back)},
        ),
    ]


def render(families: Iterable[Family]) -> str:
    return "".join(line + "\n" for one in families for line in _lines(one))


def _lines(one: Family) -> Iterator[str]:
    if not one.samples:
        return
    yield f"# HELP {one.name} {one.help}"
    yield f"# TYPE {one.name} {one.kind}"
    for sample in one.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
        yield f"{sample.name}{{{labels}}} {sample.value:g}" if labels else f"{sample.name} {sample.value:g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
