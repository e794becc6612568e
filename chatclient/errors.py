"""What can go wrong before a server has answered. What a server answers is `chatkernel.errors.ChatError`."""

from __future__ import annotations


class Unreachable(Exception):
    """Nobody answered, or the connection broke: the client tries again by itself, elsewhere if it can."""


class NotKept(Exception):
    """The disk would not take what a device keeps on it: the client goes on without, and asks again later."""


class Closed(Exception):
    """The client was closed, or the server ended its session for good; `reason` is a sentence for a
    person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
