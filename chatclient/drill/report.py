"""The verdict of a drill: as a table for people, as one flat object for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct
from rich.table import Table

from chatclient.drill.checker import Verdict
from chatclient.drill.moves import Breach

RECONNECT_P95_MAX_S = 3.0
"""After a killed pod 95 % of its clients are back and in sync within this."""

MOVES_MAX = 1
"""A client moves at most once for one drain or one scaling."""

NO_OUTBOX_FILLED = "too little was sent to fill an outbox"
NOBODY_THERE = "nobody was on a pod that went"


class FaultRecord(Struct):
    """One fault as it went. Times in seconds; `at_s` from the start of the load."""

    name: str
    at_s: float
    took_s: float = 0.0
    moves_max: int = 0
    drained: int = 0
    """Clients whose pod went on purpose and whom nothing else befell. Of these some may have been:"""
    untold: int = 0
    cut_off: int = 0
    not_once: int = 0
    """See `moves.Breach`."""
    slow_let_go: int = 0
    slow_kept: int = 0
    """Clients that did not read and were kept with more than an outbox may hold."""
    unjudged: str = ""
    """Why the fault did not go far enough to tell a right cluster from a wrong one."""
    clients: int = 0
    """Whose pod was killed."""
    reconnect_p95_s: float | None = None
    recovered: bool = True
    lost_connections: int = 0
    """Of all clients, whatever the fault was; a move is no loss."""
    slowest_ack_s: float | None = None
    """Of what was sent until the fault was over."""
    level_after_s: float | None = None
    """From the end of the fault until every client had what was acked by then."""
    notes: list[str] = []


class Report(Struct):
    """What `--json` prints. Latencies are of live deliveries; `calm_*` of those while no fault was on."""

    kept: bool
    sent: int
    acked: int
    refused: int
    lost: int
    undelivered: int
    duplicated: int
    reordered: int
    behind_cursor: int
    unauthorised: int
    moves_max: int
    drained: int
    untold: int
    cut_off: int
    not_once: int
    slow_let_go: int
    slow_kept: int
    reconnect_p50_s: float | None
    reconnect_p95_s: float | None
    reconnect_p99_s: float | None
    reconnect_max_s: float | None
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    calm_p50_ms: float | None
    calm_p99_ms: float | None
    faults: dict[str, int]
    fault_log: list[FaultRecord]
    seen_live: int
    seen_by_sync: int
    intrusions_tried: int
    users: int
    devices: int
    channels: int
    duration_s: float
    settle_s: float
    seed: int
    broken: list[str] = []
    unjudged: list[str] = []
    """Faults that showed nothing, and why: they neither kept nor broke a promise."""
    details: list[str] = []


@dataclass(slots=True)
class Measured:
    """What the runner measured beside the verdict."""

    all_ms: list[float] = field(default_factory=list)
    calm_ms: list[float] = field(default_factory=list)
    reconnects_s: list[float] = field(default_factory=list)
    fault_log: list[FaultRecord] = field(default_factory=list)
    seen_live: int = 0
    seen_by_sync: int = 0
    intrusions_tried: int = 0
    users: int = 0
    devices: int = 0
    channels: int = 0
    duration_s: float = 0.0
    settle_s: float = 0.0
    settled: bool = True
    seed: int = 0
    left_out: list[str] = field(default_factory=list)
    """Faults that cannot be done to this cluster, and why, in words."""


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of the values lies; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


def make_report(verdict: Verdict, measured: Measured) -> Report:
    log = measured.fault_log
    moves_max = max((record.moves_max for record in log), default=0)
    reconnect_p95_s = quantile(measured.reconnects_s, 0.95)
    broken = _broken(verdict, measured, moves_max, reconnect_p95_s)
    return Report(
        kept=not broken,
        sent=verdict.sent,
        acked=verdict.acked,
        refused=verdict.refused,
        lost=verdict.lost,
        undelivered=verdict.undelivered,
        duplicated=verdict.duplicated,
        reordered=verdict.reordered,
        behind_cursor=verdict.behind_cursor,
        unauthorised=verdict.unauthorised,
        moves_max=moves_max,
        drained=sum(record.drained for record in log),
        untold=sum(record.untold for record in log),
        cut_off=sum(record.cut_off for record in log),
        not_once=sum(record.not_once for record in log),
        slow_let_go=sum(record.slow_let_go for record in log),
        slow_kept=sum(record.slow_kept for record in log),
        reconnect_p50_s=quantile(measured.reconnects_s, 0.5),
        reconnect_p95_s=reconnect_p95_s,
        reconnect_p99_s=quantile(measured.reconnects_s, 0.99),
        reconnect_max_s=quantile(measured.reconnects_s, 1.0),
        p50_ms=quantile(measured.all_ms, 0.5),
        p99_ms=quantile(measured.all_ms, 0.99),
        max_ms=quantile(measured.all_ms, 1.0),
        calm_p50_ms=quantile(measured.calm_ms, 0.5),
        calm_p99_ms=quantile(measured.calm_ms, 0.99),
        faults=dict(Counter(record.name for record in log)),
        fault_log=log,
        seen_live=measured.seen_live,
        seen_by_sync=measured.seen_by_sync,
        intrusions_tried=measured.intrusions_tried,
        users=measured.users,
        devices=measured.devices,
        channels=measured.channels,
        duration_s=round(measured.duration_s, 1),
        settle_s=round(measured.settle_s, 1),
        seed=measured.seed,
        broken=broken,
        unjudged=_unjudged(measured),
        details=verdict.details,
    )


def _unjudged(measured: Measured) -> list[str]:
    """What nothing was learnt about, each once. Pods that went without a client count only if none had any."""
    some_drained = any(record.drained for record in measured.fault_log)
    lines = [
        f"{record.name} could not be judged: {record.unjudged}"
        for record in measured.fault_log
        if record.unjudged and not (record.unjudged == NOBODY_THERE and some_drained)
    ]
    return list(dict.fromkeys([*measured.left_out, *lines]))


def _broken(verdict: Verdict, measured: Measured, moves_max: int, reconnect_p95_s: float | None) -> list[str]:
    """The promises that did not hold, in words."""
    counts = {
        "a message was lost": verdict.lost,
        "a message was not delivered in time": verdict.undelivered,
        "a message came twice": verdict.duplicated,
        "a device saw another order": verdict.reordered,
        "something appeared behind a cursor": verdict.behind_cursor,
        "somebody read or wrote where they are not": verdict.unauthorised,
        "a send ended with an error": verdict.refused,
        "a send never ended": verdict.sent - verdict.acked - verdict.refused,
    }
    broken = [f"{what} ({count})" for what, count in counts.items() if count]
    if moves_max > MOVES_MAX:
        broken.append(f"a client moved {moves_max} times for one drain")
    for record in measured.fault_log:
        breaches = {
            Breach.UNTOLD: record.untold,
            Breach.CUT_OFF: record.cut_off,
            Breach.NOT_ONCE: record.not_once,
        }
        broken += [
            f"{record.name}: a drained client moves exactly once, but {count} {breach}"
            for breach, count in breaches.items()
            if count
        ]
        if record.slow_kept:
            broken.append(
                f"{record.name}: a client that does not read is let go, "
                f"but {record.slow_kept} were kept with more than an outbox"
            )
    if reconnect_p95_s is not None and reconnect_p95_s > RECONNECT_P95_MAX_S:
        broken.append(f"after a killed pod 95 % were back only after {reconnect_p95_s:.1f} s")
    broken += [
        f"{record.name}: not everybody came back" for record in measured.fault_log if not record.recovered
    ]
    if not measured.settled:
        broken.append("not everybody was in sync in the end")
    return broken


def table_of(report: Report) -> Table:
    kept = "No promise broken, but not all could be judged" if report.unjudged else "All promises kept"
    table = Table(title=kept if report.kept else "Promises broken", title_justify="left")
    table.add_column("what")
    table.add_column("result", justify="right")
    not_moved = report.untold + report.cut_off + report.not_once
    rows: list[tuple[str, object, bool]] = [
        ("sent", report.sent, True),
        ("acked", report.acked, report.acked == report.sent),
        ("lost", report.lost, not report.lost),
        ("not delivered in time", report.undelivered, not report.undelivered),
        ("duplicated", report.duplicated, not report.duplicated),
        ("reordered", report.reordered, not report.reordered),
        ("behind a cursor", report.behind_cursor, not report.behind_cursor),
        (
            "unauthorised",
            f"{report.unauthorised} of {report.intrusions_tried} tries",
            not report.unauthorised,
        ),
        ("moves per client, at most", report.moves_max, report.moves_max <= MOVES_MAX),
        ("drained clients not moved once", f"{not_moved} of {report.drained}", not not_moved),
        (
            "slow readers let go / kept",
            f"{report.slow_let_go} / {report.slow_kept}",
            not report.slow_kept,
        ),
        (
            "reconnect p50 / p95 / p99 / max, ms",
            _row(
                *(
                    None if value_s is None else value_s * 1000
                    for value_s in (
                        report.reconnect_p50_s,
                        report.reconnect_p95_s,
                        report.reconnect_p99_s,
                        report.reconnect_max_s,
                    )
                )
            ),
            report.reconnect_p95_s is None or report.reconnect_p95_s <= RECONNECT_P95_MAX_S,
        ),
        ("delivery p50 / p99 / max, ms", _row(report.p50_ms, report.p99_ms, report.max_ms), True),
        ("  while no fault was on", _row(report.calm_p50_ms, report.calm_p99_ms), True),
        ("seen live / by sync", f"{report.seen_live} / {report.seen_by_sync}", True),
    ]
    for what, result, good in rows:
        table.add_row(what, str(result), style=None if good else "bold red")
    for name, count in report.faults.items():
        table.add_row(f"fault {name}", f"{count} times")
        table.add_row("  lost connections / ack / level, s", _cost(name, report.fault_log))
    for line in report.unjudged:
        table.add_row("note", line, style="yellow")
    return table


def _cost(name: str, log: Sequence[FaultRecord]) -> str:
    """What the worst of the faults of that name cost."""
    records = [record for record in log if record.name == name]
    acks_s = [record.slowest_ack_s for record in records if record.slowest_ack_s is not None]
    level_s = [record.level_after_s for record in records if record.level_after_s is not None]
    lost = max((record.lost_connections for record in records), default=0)
    never = len(level_s) < len(records)
    return f"{lost} / {_row(max(acks_s, default=None), None if never else max(level_s, default=None))}"


def _row(*values: float | None) -> str:
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)
