"""A fault of a store: what is done to a real server or file, for how long, and what is to be seen meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoreFault:
    """`broken` strikes when it is entered and heals when it is left; it holds for `hold_s` in between."""

    name: str
    hold_s: float
    broken: Callable[[], AbstractAsyncContextManager[None]]
    stops: bool = False
    """Nothing is answered while it holds: neither writes nor reads."""


@dataclass(frozen=True, slots=True)
class StoreUnderTest:
    """`url`: for the cluster, by the wire on which faults happen; "" is the cluster's own file."""

    name: str
    words: str
    """Which server it is, for a person."""
    url: str
    faults: Sequence[StoreFault]
