"""Takes a seat as any app does, and sends a message from it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

import httpx
import msgspec

from chatkernel.access_tokens import AccessTokens
from chatkernel.errors import Code
from chatkernel.ids import now_ms
from chatkernel.problems import Problem
from chatkernel.protocol import Event, Seat, Seats
from chatkernel.settings import SecretFile, ServiceSettings
from prober.link import Link, LinkError
from prober.people import People

ASK_TIMEOUT_S = 4.0
ANSWER_TIMEOUT_S = 4.0
EXCUSED = frozenset(
    {
        *(Code.NO_CAPACITY, Code.DRAINING, Code.BUSY, Code.RATE_LIMITED, Code.REDIS_UNAVAILABLE),
        *(Code.STORAGE_UNAVAILABLE, Code.STORAGE_FULL, Code.STORAGE_DAMAGED),
    }
)
"""Refusals that say nothing of the one who refuses: the cluster is full, or what all stand on is away."""

log = logging.getLogger(__name__)


class Conversation:
    """Implements Listener: one message and its acknowledgement."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def acknowledged(self, message_id: str) -> None:
        self._answered("")

    def refused(self, message_id: str, code: str) -> None:
        self._answered(code)

    def arrived(self, event: Event) -> None:
        pass

    def _answered(self, code: str) -> None:
        if not self.answer.done():
            self.answer.set_result(code)


class Discovery:
    """`address_of`: where a pod is reached from here; None: where the seat says."""

    def __init__(
        self,
        settings: ServiceSettings,
        secret_file: SecretFile,
        people: People,
        address_of: Callable[[str], str | None],
    ) -> None:
        self._tokens = AccessTokens(secret_file, settings.auth.access_token_ttl_s, now_ms)
        self._people, self._address_of = people, address_of
        base_url = settings.api_url or settings.public_url
        self._http = httpx.AsyncClient(base_url=base_url, timeout=ASK_TIMEOUT_S, trust_env=False)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def works(self) -> bool | None:
        """None: there is no telling, for the cluster is full or what it stands on is away."""
        try:
            seat = await self._seat()
            return None if seat is None else await self._talk(seat)
        except (LinkError, httpx.HTTPError, msgspec.DecodeError, TimeoutError) as error:
            if isinstance(error, LinkError) and error.code in EXCUSED:
                return None
            log.info("no conversation through discovery", extra={"error": str(error) or type(error).__name__})
            return False

    async def _seat(self) -> Seat | None:
        token, _ = self._tokens.issue(self._people.pods)
        answer = await self._http.post("/v1/seats", json={}, headers={"authorization": f"Bearer {token}"})
        if answer.status_code == httpx.codes.OK:
            return msgspec.json.decode(answer.content, type=Seats).best
        code = msgspec.json.decode(answer.content, type=Problem).code
        if code in EXCUSED:
            return None
        raise LinkError(f"{answer.status_code} {code}")

    async def _talk(self, seat: Seat) -> bool | None:
        conversation = Conversation()
        link = await Link.open(self._address_of(seat.pod) or seat.url, seat.ticket, conversation)
        running = asyncio.create_task(link.run(), name="conversation")
        try:
            link.send(self._people.seats_channel, f"seat-{secrets.token_hex(8)}")
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                code = await conversation.answer
        finally:
            running.cancel()
            await asyncio.wait((running,))
        if code:
            raise LinkError(code, code)
        return True
