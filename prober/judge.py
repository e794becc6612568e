"""Who is at fault when a message does not arrive: decided from what was sent and what came. Pure; times are monotonic
seconds that come in.

Every message is sent by a pod, or by the prober itself, as an API pod would (the control). So two faults can be told
apart: a pod that takes a message and does not hand it on, and one to which nothing comes. Nobody is blamed for what
befalls all: then it is the store, Redis, or the prober.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

BOUND_S = 2.0
"""What has not arrived by then is a gap. The store is asked after a lost delivery only every heartbeat (10 s)."""
WINDOW_S = 10.0
MISSES_MIN = 3
MISSES_SHARE = 0.5
"""A pod fails to which so many, and this share, of the messages of a window did not come in time."""
SENDS_MISSED = 2
"""Or by which so many in a row reached nobody. Each pod sends only every few seconds."""
CONNECT_WITHIN_S = 5.0
"""Or that is registered and could not be connected to for so long, while others could."""
KNOWN_S = 15.0
"""What was judged longer ago says nothing of now; and how long gaps are told."""
LATENCIES_S = 60.0
LATENCIES_KEPT = 200
"""Of one pod."""
GAPS_KEPT = 10_000

CONTROL, NOBODY = "", "?"
"""Senders that are no pods: the prober itself, and whoever lost the connection after having been given a message."""
SENDS_REMEMBERED_S = 60.0


@dataclass(slots=True)
class _Message:
    sender: str
    sent_at: float
    expected: set[str]
    arrived: set[str] = field(default_factory=set)
    stored: bool = False


@dataclass(slots=True)
class _Pod:
    received: deque[tuple[float, bool]] = field(default_factory=deque)
    """When sent, and whether it came."""
    sends_missed: list[float] = field(default_factory=list)
    """In a row, up to the last."""
    heard: float = float("-inf")
    """When the latest that it has got was sent."""
    connecting_since: float | None = None
    known_at: float = float("-inf")
    failing_since: float | None = None
    latencies: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))


class Judge:
    """Owns what is known of the pods. `excused(pod, since)`: whether what it reads from was away since then."""

    def __init__(self, excused: Callable[[str, float], bool] = lambda pod, since: False) -> None:
        self._excused = excused
        self._pods: dict[str, _Pod] = {}
        self._pending: dict[str, _Message] = {}
        self._control_stored = float("-inf")
        self._gaps: deque[float] = deque(maxlen=GAPS_KEPT)
        self.judged_at: float | None = None
        self.deliveries = self.gaps_total = 0

    # -- what happened

    def connecting(self, pod: str, now: float) -> None:
        """It is registered, and a connection to it is being made. Again is harmless."""
        record = self._pods.setdefault(pod, _Pod())
        if record.connecting_since is None:
            record.connecting_since = now

    def connected(self, pod: str) -> None:
        self._pods.setdefault(pod, _Pod()).connecting_since = None

    def excuse_connecting(self, pod: str) -> None:
        """There is a reason that is not its fault: it is full, or it drains, or the store is away."""
        if (record := self._pods.get(pod)) is not None:
            record.connecting_since = None

    def lost(self, pod: str) -> None:
        """The connection is gone: what was under way to it is not judged."""
        for message in self._pending.values():
            message.expected.discard(pod)
            if message.sender == pod:
                message.sender = NOBODY

    def forget(self, pod: str) -> None:
        """It is no longer registered."""
        self.lost(pod)
        self._pods.pop(pod, None)

    def sent(self, message_id: str, sender: str, expected: Iterable[str], now: float) -> None:
        self._pending[message_id] = _Message(sender, now, set(expected) - {sender})

    def stored(self, message_id: str) -> None:
        """It was acknowledged."""
        message = self._pending.get(message_id)
        if message is not None:
            message.stored = True
            if message.sender == CONTROL:
                self._control_stored = max(self._control_stored, message.sent_at)

    def arrived(self, message_id: str, pod: str, now: float) -> None:
        message, record = self._pending.get(message_id), self._pods.get(pod)
        if message is None or record is None or pod not in message.expected or pod in message.arrived:
            return
        message.arrived.add(pod)
        message.stored = True  # whatever became of the acknowledgement
        record.heard = max(record.heard, message.sent_at)
        record.latencies.append((now, (now - message.sent_at) * 1000))
        self.deliveries += 1

    def void(self) -> None:
        """Redis or the store was away, or the prober itself stood still: what is under way says nothing."""
        self._pending.clear()
        for record in self._pods.values():
            record.connecting_since = None

    # -- what follows from it

    def settle(self, now: float) -> None:
        """Judge what should have arrived by now."""
        due = [key for key, message in self._pending.items() if message.sent_at <= now - BOUND_S]
        for key in due:
            self._judge(self._pending.pop(key), now)
        for pod, record in self._pods.items():
            self._weigh(pod, record, now)

    def _judge(self, message: _Message, now: float) -> None:
        missing = message.expected - message.arrived
        if not message.stored:
            if self._control_stored >= message.sent_at:
                self._send_missed(message)
            return
        if not message.expected:
            self._send_came_through(message)
            return
        self.judged_at = now
        self.gaps_total += len(missing)
        self._gaps.extend([now] * len(missing))
        if not message.arrived:
            # Nobody has it. Had its readers what others sent later, it is its sender who has not handed it on.
            heard = any(self._pods[pod].heard >= message.sent_at for pod in missing if pod in self._pods)
            if heard:
                self._send_missed(message)
            return
        self._send_came_through(message)
        for pod in message.expected:
            record = self._pods.get(pod)
            if record is not None and not (pod in missing and self._excused(pod, message.sent_at)):
                record.received.append((message.sent_at, pod not in missing))
                record.known_at = now

    def _send_missed(self, message: _Message) -> None:
        if (record := self._pods.get(message.sender)) is not None:
            record.sends_missed = [*record.sends_missed, message.sent_at][-SENDS_MISSED:]

    def _send_came_through(self, message: _Message) -> None:
        if (record := self._pods.get(message.sender)) is not None:
            record.sends_missed.clear()

    def _weigh(self, pod: str, record: _Pod, now: float) -> None:
        while record.received and record.received[0][0] < now - WINDOW_S - BOUND_S:
            record.received.popleft()
        if record.sends_missed and record.sends_missed[-1] < now - SENDS_REMEMBERED_S:
            record.sends_missed.clear()
        missed = [at for at, came in record.received if not came]
        since: list[float] = []
        if len(missed) >= MISSES_MIN and len(missed) >= MISSES_SHARE * len(record.received):
            since.append(missed[0])
        if len(record.sends_missed) >= SENDS_MISSED:
            since.append(record.sends_missed[0])
        connecting = record.connecting_since
        if connecting is not None and connecting < now - CONNECT_WITHIN_S and self._others_work(pod, now):
            since.append(connecting)
        if not since:
            record.failing_since = None
            return
        record.known_at = now
        record.failing_since = min(since) if record.failing_since is None else record.failing_since

    def _others_work(self, pod: str, now: float) -> bool:
        return any(
            other.known_at >= now - KNOWN_S and other.failing_since is None
            for name, other in self._pods.items()
            if name != pod
        )

    # -- what is told

    def verdict(self, pod: str, now: float) -> tuple[bool, float | None] | None:
        """Whether it delivers, and else since when it does not; None: unknown."""
        record = self._pods.get(pod)
        if record is None or record.known_at < now - KNOWN_S:
            return None
        return record.failing_since is None, record.failing_since

    @property
    def pods(self) -> list[str]:
        return list(self._pods)

    def gaps(self, now: float) -> int:
        """Arrivals that did not come in time, of late."""
        while self._gaps and self._gaps[0] < now - KNOWN_S:
            self._gaps.popleft()
        return len(self._gaps)

    def latencies_ms(self, now: float, pod: str | None = None) -> list[float]:
        """Of the last minute, in order."""
        records = self._pods.values() if pod is None else [self._pods[pod]]
        return sorted(ms for record in records for at, ms in record.latencies if at >= now - LATENCIES_S)
