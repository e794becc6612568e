"""The parts of one API pod, built from its settings and put in one place for the handlers."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from apipod.announce import Announcer
from apipod.auth import Authenticator
from apipod.discovery import Discovery
from apipod.health import Health
from apipod.liveness import Liveness
from apipod.passwords import Passwords
from apipod.sessions import Sessions
from apipod.throttle import Throttle
from chatkernel.access_tokens import AccessTokens
from chatkernel.gate import Gate
from chatkernel.ids import NowMs, now_ms
from chatkernel.tickets import TicketIssuer
from chatkernel.wiring import Kernel

if TYPE_CHECKING:
    from apipod.issuers import Issuers


class Services:
    """What handlers use. `start` before the first request, `aclose` after the last."""

    def __init__(
        self,
        kernel: Kernel,
        *,
        now: NowMs = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        settings, auth = kernel.settings, kernel.settings.auth
        self.kernel, self.settings, self.store = kernel, settings, kernel.store
        self.live = live = kernel.live
        self.now = now
        self.responses: Counter[int] = Counter()
        self.gate = Gate(live)
        self.passwords = passwords or Passwords()
        self.tokens = AccessTokens(kernel.secrets, auth.access_token_ttl_s, now)
        self.announcer = Announcer(kernel.tell, kernel.presence, kernel.store, now)
        self.liveness = Liveness(kernel.store, monotonic)
        self.throttle, self.user_throttle, self.send_throttle = _throttles(kernel)
        self.sessions = Sessions(
            store=kernel.store,
            tokens=self.tokens,
            passwords=self.passwords,
            limiter=kernel.limiter,
            liveness=self.liveness,
            announcer=self.announcer,
            settings=auth,
            live=live,
            now=now,
        )
        self._issuers = _issuers(kernel, now, monotonic)
        self.authenticator = Authenticator(
            tokens=self.tokens,
            issuers=self._issuers,
            liveness=self.liveness,
            accounts=kernel.store,
            devices=kernel.store,
            sessions=self.sessions,
            now=now,
            monotonic=monotonic,
        )
        tickets = TicketIssuer(kernel.secrets, auth.ticket_ttl_s, now)
        self.discovery = Discovery(
            kernel.registry,
            tickets,
            redis=kernel.redis,
            mark=kernel.keys.discovery_mark(settings.pod, secrets.token_hex(4)),
            region=settings.region,
            monotonic=monotonic,
            rng=rng or random.Random(),
        )
        self.health = Health(kernel, monotonic)

    def count(self, status: int) -> None:
        self.responses[status] += 1

    async def start(self) -> None:
        self.passwords.prepare()
        self.kernel.start()
        await self.discovery.start()

    async def aclose(self) -> None:
        await self.discovery.aclose()
        await self.kernel.aclose()
        if self._issuers is not None:
            await self._issuers.aclose()
        self.passwords.close()


def _throttles(kernel: Kernel) -> tuple[Throttle, Throttle, Throttle]:
    """Of requests per device, of requests per user, and of what is sent."""
    limiter, live = kernel.limiter, kernel.live

    def of_device() -> tuple[float, int]:
        return live.rates.requests_per_s, live.rates.requests_burst

    def of_user() -> tuple[float, int]:
        return live.rates.user_requests_per_s, live.rates.user_requests_burst

    def of_sends() -> tuple[float, int]:
        return live.limits.sends_per_s, live.limits.sends_burst

    return (
        Throttle(limiter, "http", "requests_per_s", of_device),
        Throttle(limiter, "http-user", "user_requests_per_s", of_user),
        Throttle(limiter, "send", "sends_per_s", of_sends),
    )


def _issuers(kernel: Kernel, now: NowMs, monotonic: Callable[[], float]) -> Issuers | None:
    issuers = kernel.settings.auth.issuers
    if not issuers:
        return None
    # Late, because an HTTP client is a large part of the time to start, and few clusters need it.
    import httpx

    from apipod.issuers import FETCH_TIMEOUT_S, Issuers

    return Issuers(issuers, httpx.AsyncClient(timeout=FETCH_TIMEOUT_S), now, monotonic)
