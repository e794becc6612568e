"""Request rates per device or address, with few trips to Redis: requests are counted here and charged in
blocks."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from chatkernel.errors import ChatError, Code
from chatkernel.ratelimit import RateLimiter

REMEMBERED_MAX = 20_000
BLOCK_MAX = 16


class Throttle:
    """A rate for each key, shared by all API pods.

    A pod lets at most `block - 1` requests per key pass that Redis does not know of yet: a sixteenth of the
    burst at most. Who asks now and then is never worth a trip; who asks often costs one trip per block; who
    is over the rate costs one each, until it is allowed again.
    """

    def __init__(
        self, limiter: RateLimiter, name: str, field: str, rate: Callable[[], tuple[float, int]]
    ) -> None:
        """`rate`: the present one, per second, and its burst; `field`: the setting that gives it, for refusals."""
        self._limiter, self._name, self._field, self._rate = limiter, name, field, rate
        self._owed: OrderedDict[str, int] = OrderedDict()

    async def check(self, key: str) -> None:
        """Count one request. Raises ChatError(RATE_LIMITED)."""
        rate_per_s, burst = self._rate()
        block = max(1, min(BLOCK_MAX, burst // 16))
        owed = min(self._owed.get(key, 0) + 1, block)
        self._owed[key] = owed
        self._owed.move_to_end(key)
        if owed < block:
            if len(self._owed) > REMEMBERED_MAX:
                self._owed.popitem(last=False)
            return
        wait_s = await self._limiter.hit(f"{self._name}:{key}", rate_per_s, burst, owed)
        if wait_s > 0:
            raise rate_limited(wait_s, self._field, math.ceil(rate_per_s))
        self._owed[key] = 0


def rate_limited(wait_s: float, field: str, limit: int) -> ChatError:
    """`field` is the setting that gives the rate: what there is too much of is no field of the request."""
    return ChatError(Code.RATE_LIMITED, field=field, retry_after_s=round(wait_s, 3), limit=limit)
