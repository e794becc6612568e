"""What goes between the bench and its load client."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """Sorted."""

    def percentile_ms(self, share: float) -> float:
        if not self.latencies_us:
            return float("nan")
        return self.latencies_us[min(len(self.latencies_us) - 1, int(share * len(self.latencies_us)))] / 1000
