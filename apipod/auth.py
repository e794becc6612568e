"""Who asks: from a bearer token to a live device of a person."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from msgspec import Struct
from starlette.types import Scope

from apipod.liveness import Liveness
from chatkernel.access_tokens import AccessTokens, Caller, Verified, token_header, unauthenticated
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.httplayer import header
from chatkernel.ids import NowMs, new_user_id
from chatkernel.storage.directory import Accounts, Devices
from chatkernel.storage.model import User

if TYPE_CHECKING:
    from apipod.issuers import Issuers, Subject
    from apipod.sessions import Sessions

TOKEN_MAX_BYTES = 8 * 1024
TRUST_VERIFIED_S = 5.0
"""How long a verified token is believed without doing the mathematics again. Its expiry and its device's
life are looked at every time."""
REMEMBERED_MAX = 10_000
SEEN_EVERY_S = 3600
"""How often it is noted that an issuer's device is in use: of too many, the one unseen for longest goes."""

DEVICE_ID = re.compile(r"[A-Za-z0-9_.-]{4,64}")
DEVICE_HEADER = b"x-device-id"


class _Remembered(Struct, frozen=True):
    verified: Verified
    until: float


def check_device_id(device_id: str, field: str = "device_id") -> str:
    """Raises ChatError(INVALID_FIELD)."""
    if not DEVICE_ID.fullmatch(device_id):
        raise invalid(field, "4 to 64 characters of A-Z a-z 0-9 _ . -", 64)
    return device_id


class Authenticator:
    """Verifies tokens of our own and of configured issuers."""

    def __init__(
        self,
        *,
        tokens: AccessTokens,
        issuers: Issuers | None,
        liveness: Liveness,
        accounts: Accounts,
        devices: Devices,
        sessions: Sessions,
        now: NowMs,
        monotonic: Callable[[], float],
    ) -> None:
        self._tokens, self._issuers, self._liveness = tokens, issuers, liveness
        self._accounts, self._devices, self._sessions = accounts, devices, sessions
        self._now, self._monotonic = now, monotonic
        self._first_sights: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._remembered: OrderedDict[tuple[str, bytes], _Remembered] = OrderedDict()

    async def caller(self, scope: Scope) -> Caller:
        """Raises ChatError(UNAUTHENTICATED | TOKEN_EXPIRED | DEVICE_REVOKED | ACCOUNT_SUSPENDED | ACCOUNT_ERASED)."""
        token = _bearer(scope)
        device_header = header(scope, DEVICE_HEADER) or b""
        key = (token, device_header)
        known = self._remembered.get(key)
        if known is None or known.until <= self._monotonic():
            verified = await self._verify(token, device_header)
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.popitem(last=False)
            self._remembered[key] = _Remembered(verified, self._monotonic() + TRUST_VERIFIED_S)
        else:
            verified = known.verified
        if verified.expires_at <= self._now():
            raise ChatError(Code.TOKEN_EXPIRED, field="Authorization")
        caller = verified.caller
        if not await self._liveness.is_live(caller.device_id):
            raise await self._why_dead(caller)
        return caller

    async def _verify(self, token: str, device_header: bytes) -> Verified:
        head = token_header(token)
        if self._tokens.knows(head):
            return self._tokens.verify(token, head)
        if self._issuers is None:
            raise unauthenticated("The access token is not one of this cluster's")
        subject = await self._issuers.verify(token, head)
        if not device_header:
            raise invalid("X-Device-Id", "this header names the device when the token is an issuer's")
        device_id = check_device_id(device_header.decode("latin-1"), "X-Device-Id")
        user_id = await self._person(subject)
        caller = Caller(user_id, device_id)
        await self._own_device(caller)
        return Verified(caller, subject.expires_at)

    async def _person(self, subject: Subject) -> str:
        new = User(new_user_id(), subject.username, subject.display_name, self._now())
        return (await self._accounts.user_of_subject(subject.issuer, subject.subject, new)).user_id

    async def _own_device(self, caller: Caller) -> None:
        """An issuer's device is added at first sight. A revoked one stays revoked: adding would revive it."""
        device = await self._devices.device(caller.device_id)
        if device is None:
            # An app that starts asks for several things at once: that is one device, and counted once.
            async with self._first_sights.setdefault(caller.user_id, asyncio.Lock()):
                device = await self._devices.device(caller.device_id)
                if device is None:
                    await self._sessions.first_sight(caller)
                    return
        if device.user_id != caller.user_id:
            raise ChatError(Code.CONFLICT, "The device id is another person's", field="X-Device-Id")
        if device.revoked_at is not None:
            raise ChatError(Code.DEVICE_REVOKED, field="X-Device-Id")
        if device.last_seen_at < self._now() - SEEN_EVERY_S * 1000:
            await self._devices.touch_device(caller.device_id, self._now())

    async def _why_dead(self, caller: Caller) -> ChatError:
        device = await self._devices.device(caller.device_id)
        if device is None or device.user_id != caller.user_id or device.revoked_at is not None:
            return ChatError(Code.DEVICE_REVOKED)
        return ChatError(Code.ACCOUNT_SUSPENDED)


def _bearer(scope: Scope) -> str:
    value = header(scope, b"authorization")
    if value is None:
        raise unauthenticated()
    scheme, _, token = value.partition(b" ")
    if scheme.lower() != b"bearer" or not token or len(token) > TOKEN_MAX_BYTES:
        raise unauthenticated("The Authorization header is not `Bearer <token>`")
    return token.strip().decode("latin-1")
