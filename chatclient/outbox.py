"""What the app has asked to be stored and no server has acked yet, without I/O.

Per channel one command is under way at a time: so a person's own messages keep their order through resends,
reconnects and retryable errors. Different channels do not wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from chatclient.backoff import Backoff
from chatkernel.protocol import Ack, Delete, Edit, Error, React, Send

Command: TypeAlias = Send | Edit | Delete | React

ACK_TIMEOUT_S = 6.0
"""After this without an answer the same command is sent again on the same socket: no duplicate can come of
it."""


@dataclass(slots=True, eq=False)
class Pending:
    """One command on its way. `lane` is whatever it was last sent on; None: not under way."""

    command: Command
    done: Callable[[Ack | Error | None], None]
    backoff: Backoff
    lane: object | None = None
    sent_at: float = 0.0
    not_before: float = 0.0
    frame_ids: list[str] = field(default_factory=list)
    sends: int = 0


class Outbox:
    """Commands in order per channel. `now` arguments are seconds of one monotonic clock."""

    __slots__ = ("_by_frame", "_new_backoff", "_new_id", "_queues", "_ready")

    def __init__(self, new_id: Callable[[], str], new_backoff: Callable[[], Backoff]) -> None:
        self._new_id, self._new_backoff = new_id, new_backoff
        self._queues: dict[str, deque[Pending]] = {}
        self._by_frame: dict[str, Pending] = {}
        self._ready: list[Pending] = []

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, command: Command, done: Callable[[Ack | Error | None], None]) -> None:
        """`done` is called once: with the ack, with the error that ends it, or with None when we close."""
        pending = Pending(command, done, self._new_backoff())
        queue = self._queues.setdefault(command.channel_id, deque())
        queue.append(pending)
        if len(queue) == 1:
            self._ready.append(pending)

    def take(self, lane: object, now: float) -> list[Command]:
        """What is to be sent on `lane` now, with fresh frame ids."""
        if not self._ready:
            return []
        out: list[Command] = []
        later: list[Pending] = []
        for pending in self._ready:
            if pending.not_before > now:
                later.append(pending)
                continue
            frame_id = self._new_id()
            pending.lane, pending.sent_at = lane, now
            pending.sends += 1
            pending.frame_ids.append(frame_id)
            self._by_frame[frame_id] = pending
            out.append(msgspec.structs.replace(pending.command, id=frame_id))
        self._ready = later
        return out

    def answer(self, frame: Ack | Error, now: float) -> bool:
        """Whether it was an answer to a command. A retryable error only delays the command."""
        pending = self._by_frame.get(frame.id or "")
        if pending is None:
            return False
        if isinstance(frame, Error) and frame.retryable:
            wait_s = None if frame.retry_after_ms is None else frame.retry_after_ms / 1000
            self._again(pending, now + pending.backoff.next_s(wait_s))
            return True
        for frame_id in pending.frame_ids:
            self._by_frame.pop(frame_id, None)
        queue = self._queues[pending.command.channel_id]
        queue.popleft()  # only the first of a channel is ever under way
        if queue:
            self._ready.append(queue[0])
        else:
            del self._queues[pending.command.channel_id]
        if pending in self._ready:  # a late answer to an earlier sending of it
            self._ready.remove(pending)
        pending.done(frame)
        return True

    def lost(self, lane: object) -> None:
        """The lane died: what was under way on it is sent again, by whatever comes next."""
        for pending in self._under_way():
            if pending.lane is lane:
                self._again(pending, 0.0)

    def overdue(self, now: float, after_s: float) -> list[Pending]:
        """What has been under way for longer than `after_s`."""
        return [pending for pending in self._under_way() if now - pending.sent_at > after_s]

    def again(self, pending: Pending) -> None:
        """Send it again at once (its answer is overdue)."""
        self._again(pending, 0.0)

    def under_way_on(self, lane: object) -> int:
        return sum(pending.lane is lane for pending in self._under_way())

    def abandon(self) -> None:
        """Ends everything with None: the client is closing."""
        queues, self._queues, self._by_frame, self._ready = self._queues, {}, {}, []
        for queue in queues.values():
            for pending in queue:
                pending.done(None)

    def _under_way(self) -> list[Pending]:
        return [queue[0] for queue in self._queues.values() if queue[0].lane is not None]

    def _again(self, pending: Pending, not_before: float) -> None:
        pending.lane, pending.not_before = None, not_before
        if pending not in self._ready:
            self._ready.append(pending)
