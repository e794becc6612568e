"""What the API server refuses, or somebody else has, is asked for again ever more rarely; at once when it has become
another thing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator

from msgspec import Struct

from chatoperator.kube.errors import Forbidden, Foreign, Invalid

AGAIN_FIRST_S = 1.0
AGAIN_MAX_S = 15.0
"""A person who has mended it does not wait long, and a cluster that nobody mends asks four times a minute."""


class _Refused(Struct, frozen=True):
    version: str
    error: Forbidden | Foreign | Invalid
    pause_s: float
    again_at: float


class Refusals:
    """Of one cluster. `with refusals(what, version):` round what asks."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._refused: dict[Hashable, _Refused] = {}

    @contextlib.contextmanager
    def __call__(self, what: Hashable, version: str = "") -> Iterator[None]:
        """While it is too early to ask again for this version of it, raises what was said last, and asks nobody."""
        last = self._refused.get(what)
        if last is not None and last.version != version:
            last = None
        if last is not None and self._now() < last.again_at:
            raise type(last.error)(str(last.error), last.error.status)
        try:
            yield
        except (Forbidden, Foreign, Invalid) as error:
            pause_s = AGAIN_FIRST_S if last is None else min(AGAIN_MAX_S, 2 * last.pause_s)
            self._refused[what] = _Refused(version, error, pause_s, self._now() + pause_s)
            raise
        self._refused.pop(what, None)
