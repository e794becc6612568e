"""Single-use tickets: what discovery signs and a chat pod redeems, bound to user, device, pod and incarnation.

Since a ticket names one run of one pod, "single-use" needs no shared memory: that process remembers the ids it
has seen until they expire.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import deque

import msgspec
from msgspec import Struct

from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.settings import SecretFile


class Ticket(Struct, frozen=True, array_like=True):
    """`expires_at` in Unix ms; `nonce` makes it single-use."""

    user_id: str
    device_id: str
    pod: str
    incarnation: str
    expires_at: int
    nonce: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ticket)


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"chatcluster ticket\0" + secret.encode()).digest()


class TicketIssuer:
    """Signs tickets with the first signing key."""

    def __init__(self, secrets_file: SecretFile, ttl_s: float, now: NowMs) -> None:
        first = secrets_file.signing_keys[0]
        self._kid, self._key = first.kid, _key(first.secret)
        self._ttl_ms, self._now = int(ttl_s * 1000), now

    def issue(self, user_id: str, device_id: str, pod: str, incarnation: str) -> tuple[str, int]:
        """The ticket and when it expires (Unix ms)."""
        expires_at = self._now() + self._ttl_ms
        ticket = Ticket(user_id, device_id, pod, incarnation, expires_at, secrets.token_urlsafe(9))
        body = base64.urlsafe_b64encode(_encoder.encode(ticket)).rstrip(b"=")
        mac = hmac.digest(self._key, body, "sha256")
        return f"{self._kid}.{body.decode()}.{mac.hex()}", expires_at


class TicketRedeemer:
    """Verifies and uses up the tickets of one run of one pod."""

    def __init__(self, secrets_file: SecretFile, pod: str, now: NowMs) -> None:
        self._keys = {key.kid: _key(key.secret) for key in secrets_file.signing_keys}
        self._pod, self._now = pod, now
        self._used: set[str] = set()
        self._used_order: deque[tuple[int, str]] = deque()

    def redeem(self, text: str, incarnation: str) -> Ticket:
        """Raises ChatError(TICKET_INVALID | TICKET_EXPIRED | TICKET_USED | TICKET_WRONG_POD)."""
        kid, _, rest = text.partition(".")
        body, _, mac = rest.partition(".")
        key = self._keys.get(kid)
        if not text.isascii() or key is None:
            raise ChatError(Code.TICKET_INVALID)
        if not hmac.compare_digest(hmac.digest(key, body.encode(), "sha256").hex(), mac):
            raise ChatError(Code.TICKET_INVALID)
        try:
            ticket = _decoder.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (ValueError, msgspec.DecodeError) as error:
            raise ChatError(Code.TICKET_INVALID) from error
        if ticket.pod != self._pod or ticket.incarnation != incarnation:
            raise ChatError(Code.TICKET_WRONG_POD)
        now = self._now()
        if ticket.expires_at <= now:
            raise ChatError(Code.TICKET_EXPIRED)
        while self._used_order and self._used_order[0][0] <= now:
            self._used.discard(self._used_order.popleft()[1])
        if ticket.nonce in self._used:
            raise ChatError(Code.TICKET_USED)
        self._used.add(ticket.nonce)
        self._used_order.append((ticket.expires_at, ticket.nonce))
        return ticket
