"""Who is at fault when a message does not arrive: decided from what was sent and what came. Pure; times are monotonic
seconds that come in.

By the messages that the prober sends itself, as an API pod would (the control), is seen to which pod nothing comes;
by those that a pod sends, whether it hands on what it takes. Nobody is blamed for what befalls all: then it is the
store, Redis, or the prober. A pod looks for what it has missed in the store, if only every heartbeat (10 s): so what
comes late may come from there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

BOUND_S = 2.0
"""After it was stored; what has not arrived by then is a gap."""
ANSWER_S = 5.0
"""What is not acknowledged by then is not going to be."""
WINDOW_S = 10.0
MISSES_MIN = 3
MISSES_SHARE = 0.5
"""A pod fails to which so many, and this share, of the control's messages of a window did not come in time."""
HANDED_ON_S = 1.0
SENDS_LOOKED_AT, SENDS_MISSED = 3, 2
"""Or by which so many of its last messages were not with most of the others so soon after they were stored. Each pod
sends only every few seconds."""
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
    arrived: dict[str, float] = field(default_factory=dict)
    stored_at: float | None = None

    def is_due(self, now: float) -> bool:
        at, wait_s = (self.sent_at, ANSWER_S) if self.stored_at is None else (self.stored_at, BOUND_S)
        return now >= at + wait_s


@dataclass(slots=True)
class _Pod:
    received: deque[tuple[float, bool]] = field(default_factory=deque)
    """Of the control's messages: when sent, and whether it came."""
    sends: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=SENDS_LOOKED_AT))
    """The same of its own messages: whether it handed them on."""
    heard: float = float("-inf")
    """When the latest of the control's that it has got was sent."""
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

    def stored(self, message_id: str, now: float) -> None:
        """It was acknowledged."""
        message = self._pending.get(message_id)
        if message is not None:
            if message.stored_at is None:
                message.stored_at = now
            if message.sender == CONTROL:
                self._control_stored = max(self._control_stored, message.sent_at)

    def arrived(self, message_id: str, pod: str, now: float) -> None:
        message, record = self._pending.get(message_id), self._pods.get(pod)
        if message is None or record is None or pod not in message.expected or pod in message.arrived:
            return
        message.arrived[pod] = now
        if message.stored_at is None:  # the acknowledgement comes later, or never
            message.stored_at = now
        if message.sender == CONTROL:
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
        due = [key for key, message in self._pending.items() if message.is_due(now)]
        for key in due:
            self._judge(self._pending.pop(key), now)
        for pod, record in self._pods.items():
            self._weigh(pod, record, now)

    def _judge(self, message: _Message, now: float) -> None:
        if message.stored_at is None:
            if self._control_stored >= message.sent_at:
                self._note_send(message, came_through=False)
            return
        missing = message.expected - message.arrived.keys()
        if message.expected:
            self.judged_at = now
            self.gaps_total += len(missing)
            self._gaps.extend([now] * len(missing))
        if message.sender != CONTROL:
            self._judge_sender(message, message.stored_at + HANDED_ON_S)
        elif message.arrived:
            self._judge_receivers(message, now)

    def _judge_receivers(self, message: _Message, now: float) -> None:
        for pod in message.expected:
            record, came = self._pods.get(pod), pod in message.arrived
            if record is not None and (came or not self._excused(pod, message.sent_at)):
                record.received.append((message.sent_at, came))
                record.known_at = now

    def _judge_sender(self, message: _Message, by: float) -> None:
        """Those to which nothing comes anyway say nothing of it."""
        hearing = [pod for pod in message.expected if self._hears(pod, message)]
        in_time = [pod for pod in hearing if message.arrived.get(pod, by + 1) <= by]
        if hearing or not message.expected:
            self._note_send(message, came_through=2 * len(in_time) > len(hearing) or not hearing)

    def _hears(self, pod: str, message: _Message) -> bool:
        record = self._pods.get(pod)
        if record is None or record.failing_since is not None:
            return False
        return pod in message.arrived or record.heard >= message.sent_at

    def _note_send(self, message: _Message, *, came_through: bool) -> None:
        if (record := self._pods.get(message.sender)) is not None:
            record.sends.append((message.sent_at, came_through))

    def _weigh(self, pod: str, record: _Pod, now: float) -> None:
        while record.received and record.received[0][0] < now - WINDOW_S - BOUND_S:
            record.received.popleft()
        while record.sends and record.sends[0][0] < now - SENDS_REMEMBERED_S:
            record.sends.popleft()
        missed = [at for at, came in record.received if not came]
        since: list[float] = []
        if len(missed) >= MISSES_MIN and len(missed) >= MISSES_SHARE * len(record.received):
            since.append(missed[0])
        sends_missed = [at for at, came_through in record.sends if not came_through]
        if len(sends_missed) >= SENDS_MISSED:
            since.append(sends_missed[0])
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
