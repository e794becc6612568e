"""What goes between the bench and its load client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median

STOLEN_SHARE_MAX = 0.01
"""Of all cores. A host that takes a core away for some milliseconds is in every latency of that second, and says
nothing of the pod; which seconds those were the host itself tells (the `steal` of its CPU clock)."""


@dataclass(slots=True)
class Plan:
    """One connection to be. Without `host`, or when it comes back, discovery gives the seat (`token`)."""

    user_id: str
    device_id: str
    host: str = ""
    port: int = 0
    path: str = ""
    pod: str = ""
    incarnation: str = ""
    channel_id: str = ""
    """Where this connection sends to, if it does."""
    cursors: dict[str, int] = field(default_factory=dict)
    sampled: bool = False
    """Whether the age of what it receives is measured."""
    token: str = ""
    ticket: str = ""
    """What discovery gave, with `token`."""


@dataclass(slots=True)
class Window:
    """What was counted between two instants."""

    wall_s: float
    events: int
    acks: int
    pages: int
    cpu_s: dict[int, float]
    client_cpu_s: float
    sent: int = 0
    answers: int = 0
    latencies_us: list[int] = field(default_factory=list)
    """Of sampled connections: from the sender's write to the arrival of the bytes at the receiver. Sorted."""
    late_us: list[int] = field(default_factory=list)
    """How long after its time each message of an open loop was written: the client's own delay. Sorted."""
    stolen_share: float = 0.0
    """Of all cores, what the machine's host kept for itself meanwhile."""

    def percentile_ms(self, share: float) -> float:
        return _percentile_ms(self.latencies_us, share)

    def late_percentile_ms(self, share: float) -> float:
        return _percentile_ms(self.late_us, share)


def merged(windows: Sequence[Window]) -> Window:
    """Windows that follow each other as one."""
    return Window(
        wall_s=sum(each.wall_s for each in windows),
        events=sum(each.events for each in windows),
        acks=sum(each.acks for each in windows),
        pages=sum(each.pages for each in windows),
        cpu_s={pid: sum(each.cpu_s[pid] for each in windows) for pid in windows[0].cpu_s},
        client_cpu_s=sum(each.client_cpu_s for each in windows),
        sent=sum(each.sent for each in windows),
        answers=sum(each.answers for each in windows),
        latencies_us=sorted(chain.from_iterable(each.latencies_us for each in windows)),
        late_us=sorted(chain.from_iterable(each.late_us for each in windows)),
        stolen_share=sum(each.stolen_share * each.wall_s for each in windows)
        / sum(each.wall_s for each in windows),
    )


def undisturbed(windows: Sequence[Window]) -> list[Window]:
    """Those in which the machine was the bench's own; without any, the better half."""
    calm = [each for each in windows if each.stolen_share <= STOLEN_SHARE_MAX]
    return calm or sorted(windows, key=lambda each: each.stolen_share)[: (len(windows) + 1) // 2]


def middle_percentile_ms(windows: Sequence[Window], share: float) -> float:
    """The percentile of each window, and of these the median. What a pod does again and again (commits,
    checkpoints) is in it; a pause of the host or its disk that falls into one or two windows is not: that shows in
    the percentile of all windows merged, which is given beside it."""
    return median([each.percentile_ms(share) for each in windows])


def _percentile_ms(sorted_us: Sequence[int], share: float) -> float:
    if not sorted_us:
        return float("nan")
    return sorted_us[min(len(sorted_us) - 1, int(share * len(sorted_us)))] / 1000
