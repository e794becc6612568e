"""What was sent and what each device saw: plain records that the checker judges later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from chatclient.listener import Down, Listener, StateChange, Up
from chatkernel.protocol import Event, EventKind


class Seen(NamedTuple):
    """One event as a device had it."""

    seq: int
    message_id: int
    sender_id: str
    client_msg_id: str


class Loss(NamedTuple):
    """A connection that a device lost while it had no other."""

    at_s: float
    pod: str
    code: int
    told: bool
    """The pod had asked it to move."""
    gave_up: bool = False
    """The device ended it itself, since the pod did not answer."""


@dataclass(slots=True)
class Sent:
    """One message on its way. Times are seconds of one monotonic clock."""

    channel_id: str
    sender_id: str
    client_msg_id: str
    sent_at: float
    acked_at: float | None = None
    seq: int = 0
    message_id: int = 0
    error: str = ""


@dataclass(slots=True)
class DeviceHistory:
    """What one device was handed on in the channels of the drill.

    `baselines`: channel → the seq that it had before the drill began; `cursors`: what it says it has at the
    end.
    """

    user_id: str
    device: str
    baselines: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    behind: list[tuple[str, Seen]] = field(default_factory=list)
    """Events at or below the cursor that the device had never had when they came."""
    foreign: list[tuple[str, Seen]] = field(default_factory=list)
    """Events of channels that the device did not think it was in."""


@dataclass(slots=True)
class Intrusion:
    """What somebody tried where they had no business, and whether it worked."""

    user_id: str
    channel_id: str
    what: str
    worked: bool


class Latencies:
    """Send → handed to a device, in milliseconds, for live deliveries; apart: those while no fault was on."""

    __slots__ = ("_now", "all_ms", "calm", "calm_ms", "max_by_device", "sent_at")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.sent_at: dict[str, float] = {}
        self.all_ms: list[float] = []
        self.calm_ms: list[float] = []
        self.calm = True

    def delivered(self, client_msg_id: str) -> None:
        sent_at = self.sent_at.get(client_msg_id)
        if sent_at is not None:
            took_ms = (self._now() - sent_at) * 1000
            self.all_ms.append(took_ms)
            if self.calm:
                self.calm_ms.append(took_ms)


class DeviceRecorder(Listener):
    """Writes a DeviceHistory. Runs thousands of times a second: it only appends."""

    def __init__(self, history: DeviceHistory, latencies: Latencies, now: Callable[[], float]) -> None:
        self.history = history
        self.ups: list[tuple[float, Up]] = []
        self.losses: list[Loss] = []
        self.told_and_gave_up: Callable[[], tuple[bool, bool]] = lambda: (False, True)
        """Of the current connection, see `Loss`; without one no pod is blamed."""
        self.live = self.synced = 0
        self._latencies, self._now = latencies, now

    def on_event(self, event: Event, live: bool) -> None:
        seen = self.history.seen.get(event.channel_id)
        if seen is None:
            seen = self.history.seen[event.channel_id] = []
        seen.append(Seen(event.seq, event.message_id, event.sender_id, event.client_msg_id))
        if live:
            self.live += 1
            if event.kind is EventKind.MESSAGE:
                self._latencies.delivered(event.client_msg_id)
        else:
            self.synced += 1

    def on_refused(self, event: Event) -> None:
        history, channel_id = self.history, event.channel_id
        record = Seen(event.seq, event.message_id, event.sender_id, event.client_msg_id)
        seen = history.seen.get(channel_id)
        baseline = history.baselines.get(channel_id)
        if baseline is None:
            if not seen:
                history.foreign.append((channel_id, record))
        elif event.seq > baseline and not _had(seen, record):
            history.behind.append((channel_id, record))

    def on_state(self, change: StateChange) -> None:
        if isinstance(change, Up):
            self.ups.append((self._now(), change))
        elif isinstance(change, Down):
            self.losses.append(Loss(self._now(), change.pod, change.code, *self.told_and_gave_up()))


def _had(seen: list[Seen] | None, record: Seen) -> bool:
    """Seqs are dense in a right history, so the place is known; in a wrong one we look everywhere."""
    if not seen:
        return False
    index = record.seq - seen[0].seq
    if 0 <= index < len(seen) and seen[index] == record:
        return True
    return record in seen
