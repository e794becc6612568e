"""The seeded load, the names of faults, and the verdict's keys and exit."""

from __future__ import annotations

import msgspec
import pytest

from chatclient.drill.checker import Verdict
from chatclient.drill.faults import COMBINED, FAULTS, expand, needs_control
from chatclient.drill.report import NOBODY_THERE, FaultRecord, Measured, make_report, quantile, table_of
from chatclient.drill.shape import DrillOptions, make_shape


def test_the_same_seed_makes_the_same_load() -> None:
    assert make_shape(DrillOptions(seed=4)) == make_shape(DrillOptions(seed=4))
    assert make_shape(DrillOptions(seed=4)) != make_shape(DrillOptions(seed=5))


def test_the_full_drill_has_channels_of_three_sizes_and_about_twenty_deliveries_a_message() -> None:
    shape = make_shape(DrillOptions())
    sizes = {len(channel.members) for channel in shape.channels}
    assert (len(shape.channels), sizes) == (60, {2, 20, 200})
    assert sum(shape.devices) == 300
    deliveries = sum(
        channel.weight * sum(shape.devices[member] for member in channel.members)
        for channel in shape.channels
    )
    assert 15 < deliveries < 25
    assert sum(channel.removed is not None for channel in shape.channels) == 2
    direct = [tuple(sorted(channel.members)) for channel in shape.channels if channel.direct]
    assert len(direct) == len(set(direct)) > 10


@pytest.mark.parametrize(("users", "channels"), [(4, 3), (10, 5), (40, 16)])
def test_small_drills_have_a_shape_too(users: int, channels: int) -> None:
    shape = make_shape(DrillOptions(users=users, channels=channels))
    assert len(shape.devices) == users and len(shape.channels) >= 3


def test_all_means_every_fault_and_the_combined_ones() -> None:
    assert expand(["all"]) == [*FAULTS, *COMBINED]
    assert expand(["drain", "kill-redis+freeze-pod"]) == ["drain", "kill-redis+freeze-pod"]
    with pytest.raises(ValueError, match="no fault is called meteor; there are: kill-pod"):
        expand(["kill-pod+meteor"])
    assert needs_control("cut-connections+kill-pod") and not needs_control("slow-reader")


def test_the_report_has_the_promised_keys() -> None:
    measured = Measured(all_ms=[1.0, 2.0, 3.0], fault_log=[FaultRecord("drain", 1.0, moves_max=1)] * 3)
    report = make_report(Verdict(sent=5, acked=5), measured)
    keys = msgspec.to_builtins(report).keys()
    promised = "sent acked lost duplicated reordered behind_cursor unauthorised moves_max"
    promised += " reconnect_p95_s p50_ms p99_ms faults"
    assert set(promised.split()) <= set(keys)
    assert report.kept and report.faults == {"drain": 3} and report.moves_max == 1
    assert table_of(report).row_count > 10


@pytest.mark.parametrize(
    ("verdict", "measured"),
    [
        (Verdict(sent=1, acked=1, lost=1), Measured()),
        (Verdict(sent=1, acked=1, behind_cursor=1), Measured()),
        (Verdict(sent=2, acked=1, refused=1), Measured()),
        (Verdict(sent=2, acked=1), Measured()),
        (Verdict(), Measured(fault_log=[FaultRecord("drain", 0.0, moves_max=2)])),
        (Verdict(), Measured(fault_log=[FaultRecord("kill-pod", 0.0, recovered=False)])),
        (Verdict(), Measured(fault_log=[FaultRecord("scale", 0.0, untold=1)])),
        (Verdict(), Measured(fault_log=[FaultRecord("scale", 0.0, cut_off=1)])),
        (Verdict(), Measured(fault_log=[FaultRecord("scale", 0.0, not_once=1)])),
        (Verdict(), Measured(fault_log=[FaultRecord("slow-reader", 0.0, slow_let_go=2, slow_kept=1)])),
        (Verdict(), Measured(reconnects_s=[0.5] * 10 + [3.5])),
        (Verdict(), Measured(settled=False)),
    ],
)
def test_each_broken_promise_is_named(verdict: Verdict, measured: Measured) -> None:
    report = make_report(verdict, measured)
    assert not report.kept and report.broken


def test_a_fault_that_could_not_be_judged_is_a_note_and_not_called_kept() -> None:
    faults = [FaultRecord("drain", 0.0), FaultRecord("slow-reader", 9.0, unjudged="too little was sent")]
    measured = Measured(fault_log=faults, left_out=["kill-redis was left out: no Redis"])
    report = make_report(Verdict(sent=1, acked=1), measured)
    assert report.kept and not report.broken
    slow = "slow-reader could not be judged: too little was sent"
    assert report.unjudged == ["kill-redis was left out: no Redis", slow]
    assert table_of(report).title != table_of(make_report(Verdict(), Measured())).title == "All promises kept"


def test_pods_that_went_without_clients_are_a_note_unless_others_had_some() -> None:
    empty = FaultRecord("scale", 0.0, unjudged=NOBODY_THERE)
    assert make_report(Verdict(), Measured(fault_log=[empty, empty])).unjudged == [
        f"scale could not be judged: {NOBODY_THERE}"
    ]
    full = FaultRecord("drain", 0.0, drained=3)
    assert make_report(Verdict(), Measured(fault_log=[empty, full])).unjudged == []


def test_times_are_shown_in_milliseconds() -> None:
    measured = Measured(reconnects_s=[0.25, 0.5, 1.5], all_ms=[2.0, 4.0])
    table = table_of(make_report(Verdict(), measured))
    shown = dict(zip(*(column.cells for column in table.columns), strict=True))
    assert shown["reconnect p50 / p95 / p99 / max, ms"] == "500.0 / 1500.0 / 1500.0 / 1500.0"
    assert shown["delivery p50 / p99 / max, ms"] == "4.0 / 4.0 / 4.0"


def test_quantiles() -> None:
    assert quantile([], 0.5) is None
    assert quantile(list(range(100)), 0.95) == 95
    assert quantile([1.0], 0.99) == 1.0
