"""The client's event loop: epoll, handlers by descriptor, a few timers. asyncio would cost too much."""

from __future__ import annotations

import heapq
import select
import selectors
import time
from collections.abc import Callable
from itertools import count

READ = 1
WRITE = 4
"""As EPOLLIN and EPOLLOUT."""

_ROUND_MAX_EVENTS = 16
"""A round is short, so that what falls due between rounds (a message at a fixed rate, a timer) is not held up by the
reading of a hundred sockets and then done in a burst that no crowd of real clients would send."""


class _PortablePoll:
    """The same four calls where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, self._mask(events))

    def modify(self, fd: int, events: int) -> None:
        self._selector.modify(fd, self._mask(events))

    def unregister(self, fd: int) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout_s: float, _max_events: int) -> list[tuple[int, int]]:
        return [
            (
                key.fd,
                (READ if mask & selectors.EVENT_READ else 0) | (WRITE if mask & selectors.EVENT_WRITE else 0),
            )
            for key, mask in self._selector.select(timeout_s)
        ]

    @staticmethod
    def _mask(events: int) -> int:
        read = selectors.EVENT_READ if events & READ else 0
        return read | (selectors.EVENT_WRITE if events & WRITE else 0)


class Loop:
    """`handlers[fd](events)` for what is ready; timers between the rounds. Descriptors added with `first` are looked
    at in every round before all others."""

    def __init__(self) -> None:
        self._poll = select.epoll() if hasattr(select, "epoll") else _PortablePoll()
        self._first = self._poll
        if isinstance(self._poll, select.epoll):
            self._first = select.epoll()
            self._poll.register(self._first.fileno(), READ)  # so that a round that waits wakes up for them
        self._polls: dict[int, select.epoll | _PortablePoll] = {}
        self.handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def add(
        self, fd: int, handler: Callable[[int], None], events: int = READ, *, first: bool = False
    ) -> None:
        self.handlers[fd] = handler
        self._polls[fd] = self._first if first else self._poll
        self._polls[fd].register(fd, events)

    def want(self, fd: int, events: int) -> None:
        self._polls[fd].modify(fd, events)

    def drop(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self._polls.pop(fd).unregister(fd)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))

    def pump(self, timeout_s: float) -> int:
        """One round; how many descriptors were ready."""
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
        if self._timers:
            timeout_s = max(0.0, min(timeout_s, self._timers[0][0] - now))
        if 0 < timeout_s < 0.001:
            # epoll counts in milliseconds and would round up; waiting on its own descriptor does not.
            if isinstance(self._poll, select.epoll):
                select.select([self._poll.fileno()], [], [], timeout_s)
            timeout_s = 0
        ready = self._poll.poll(timeout_s, _ROUND_MAX_EVENTS)
        if self._first is not self._poll:
            ready = self._first.poll(0, _ROUND_MAX_EVENTS) + ready
        handlers = self.handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)
        return len(ready)

    def until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Pump until `done()`; whether it came before the time was up."""
        deadline = time.monotonic() + timeout_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.pump(min(left, 0.05))
        return True
