"""What the operator counts, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from chatkernel.metrics import Labels, lines_of, text_of

PREFIX = "chatcluster"


class Family(Struct, frozen=True):
    """`kind`: gauge or counter."""

    name: str
    kind: str
    help: str
    values: Mapping[Labels, float]


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
    return Family(f"{PREFIX}_{name}", kind, text, values)


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


def render(families: Iterable[Family]) -> bytes:
    """Of those that have values, by their labels."""
    return text_of(
        line
        for one in families
        if one.values
        for line in lines_of(one.name, one.kind, one.help, sorted(one.values.items()))
    )
