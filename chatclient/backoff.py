"""Waiting before the next try: full jitter, so that a thousand clients of a dead pod do not come at once."""

from __future__ import annotations

from random import Random

FIRST_CAP_S = 0.5
"""The first wait is uniform in 0..this: losing a pod is to cost half a second, not a human notice."""

CAP_S = 10.0
"""No wait is longer."""


class Backoff:
    """Waits of `uniform(0, min(cap, first * 2**n))` seconds, for n = 0, 1, 2 …"""

    __slots__ = ("_cap_s", "_first_s", "_rng", "tries")

    def __init__(self, rng: Random, first_s: float = FIRST_CAP_S, cap_s: float = CAP_S) -> None:
        self._rng, self._first_s, self._cap_s = rng, first_s, cap_s
        self.tries = 0

    def next_s(self, retry_after_s: float | None = None) -> float:
        """The next wait in seconds. A server's `retry_after_s` is a lower bound, with the jitter on top."""
        # The exponent is bounded: 2**n of a client that was offline for a week is a number of many digits.
        jitter = self._rng.uniform(0, min(self._cap_s, self._first_s * 2 ** min(self.tries, 16)))
        self.tries += 1
        return jitter if retry_after_s is None else retry_after_s + min(jitter, 1.0)
