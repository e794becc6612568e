"""How many frames a device may send: counted for all its sockets on this pod together."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from chatkernel.live import Live
from chatkernel.protocol import Limits

OTHERS_PER_SEND = 10
"""Frames that store no event may come this many times as often as sends; and so may frames that are refused for
coming too often, before the socket is closed."""


class Bucket:
    """A token bucket."""

    __slots__ = ("_at_s", "_burst", "_tokens", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now_s: float) -> None:
        self.rate_per_s, self._burst = rate_per_s, burst
        self._tokens, self._at_s = burst, now_s

    def take(self, now_s: float) -> float:
        """Take one: 0.0, or how many seconds to wait."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self.rate_per_s)
        self._at_s = now_s
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self.rate_per_s
        self._tokens -= 1.0
        return 0.0

    def turn(self, rate_per_s: float, burst: float) -> None:
        """From now on at another rate; what it holds stays, as far as there is room for it."""
        self.rate_per_s, self._burst = rate_per_s, burst

    def charge(self, number: float) -> None:
        """For what turned out to cost more than one; it may leave a debt, which has to be filled up first."""
        self._tokens -= number


class Meter:
    """The buckets of one device, made when they are first needed: most connections only listen."""

    __slots__ = ("__weakref__", "_burst", "_others", "_rate_per_s", "_refusals", "_sends")

    def __init__(self, limits: Limits) -> None:
        self._rate_per_s, self._burst = limits.sends_per_s, limits.sends_burst
        self._sends: Bucket | None = None
        self._others: Bucket | None = None
        self._refusals: Bucket | None = None

    def turn(self, limits: Limits) -> None:
        """From now on at these rates."""
        self._rate_per_s, self._burst = rate_per_s, burst = limits.sends_per_s, limits.sends_burst
        if self._sends is not None:
            self._sends.turn(rate_per_s, burst)
        for bucket in (self._others, self._refusals):
            if bucket is not None:
                bucket.turn(rate_per_s * OTHERS_PER_SEND, burst * OTHERS_PER_SEND)

    def sends(self, now_s: float) -> Bucket:
        if self._sends is None:
            self._sends = Bucket(self._rate_per_s, self._burst, now_s)
        return self._sends

    def others(self, now_s: float) -> Bucket:
        if self._others is None:
            self._others = self._larger(now_s)
        return self._others

    def refusals(self, now_s: float) -> Bucket:
        if self._refusals is None:
            self._refusals = self._larger(now_s)
        return self._refusals

    def _larger(self, now_s: float) -> Bucket:
        return Bucket(self._rate_per_s * OTHERS_PER_SEND, self._burst * OTHERS_PER_SEND, now_s)


class Meters:
    """Finds a device's meter. Sessions own them; one whose last session has ended is kept until it is full again,
    so that nothing is gained by coming back."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._of: WeakValueDictionary[str, Meter] = WeakValueDictionary()
        live.follow(self._turn)

    def _turn(self) -> None:
        for meter in list(self._of.values()):
            meter.turn(self._live.limits)

    def of(self, device_id: str) -> Meter:
        meter = self._of.get(device_id)
        if meter is None:
            meter = self._of[device_id] = Meter(self._live.limits)
        return meter

    def rest(self, meter: Meter) -> None:
        """A session with it has ended."""
        refill_s = self._live.limits.sends_burst / self._live.limits.sends_per_s
        asyncio.get_running_loop().call_later(refill_s, lambda held: None, meter)
