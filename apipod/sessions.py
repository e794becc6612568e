"""Signing up, logging in and out: what the accounts and sessions resources share."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from msgspec import Struct

from apipod.announce import Announcer
from apipod.auth import check_device_id
from apipod.liveness import Liveness
from apipod.passwords import Passwords, check_password
from apipod.throttle import rate_limited
from apipod.tokens import new_refresh_token, refresh_hash
from chatkernel.access_tokens import AccessTokens, Caller
from chatkernel.errors import ChatError, Code, invalid
from chatkernel.ids import NowMs, new_device_id, new_user_id
from chatkernel.live import Live
from chatkernel.protocol import Limits
from chatkernel.ratelimit import RateLimiter
from chatkernel.settings import AuthSettings
from chatkernel.storage.model import Credentials, Device, RefreshOutcome, User
from chatkernel.storage.store import Store

log = logging.getLogger(__name__)

USERNAME = re.compile(r"[a-z0-9_.-]{3,}")
SIGNUP_WINDOW_S = 3600.0
_ATTEMPTS_REMEMBERED_MAX = 10_000


class Tokens(Struct, frozen=True):
    """A log-in. `expires_at` is the access token's, in Unix ms. Each refresh token works once."""

    user_id: str
    device_id: str
    access_token: str
    refresh_token: str
    expires_at: int


def check_username(username: str, limits: Limits) -> str:
    """In lower case: names are the same whatever their case. Raises ChatError."""
    lowered, most = username.lower(), limits.username_max_chars
    if len(lowered) > most or not USERNAME.fullmatch(lowered):
        raise invalid("username", f"3 to {most} characters of a-z 0-9 _ . -", most)
    return lowered


class Sessions:
    """Makes and ends log-ins."""

    def __init__(
        self,
        *,
        store: Store,
        tokens: AccessTokens,
        passwords: Passwords,
        limiter: RateLimiter,
        liveness: Liveness,
        announcer: Announcer,
        settings: AuthSettings,
        live: Live,
        now: NowMs,
    ) -> None:
        self._store, self._tokens, self._passwords = store, tokens, passwords
        self._liveness, self._announcer = liveness, announcer
        self._limiter, self._settings = limiter, settings
        self._live, self._now = live, now
        self._tries_of_address: dict[str, asyncio.Semaphore] = {}
        live.follow(self._tries_of_address.clear)

    async def sign_up(
        self, user: User, password: str, address: str, device_id: str | None, device_name: str
    ) -> Tokens:
        """Raises ChatError."""
        self._own_accounts_only()
        check_password(password, self._live.limits)
        most = self._live.rates.signups_per_address
        await self._hit(f"signup:{address}", "signups_per_address", most, SIGNUP_WINDOW_S)
        if device_id is not None and await self._store.device(check_device_id(device_id)) is not None:
            raise ChatError(Code.CONFLICT, "The device id is another person's", field="device_id")
        password_hash = await self._passwords.hash(password)
        await self._store.create_user(user, password_hash)
        return await self._start(user.user_id, device_id, device_name)

    async def log_in(
        self, username: str, password: str, address: str, device_id: str | None, device_name: str
    ) -> Tokens:
        """The same answer, in the same time, for a wrong name and a wrong password. Raises ChatError."""
        self._own_accounts_only()
        if device_id is not None:
            check_device_id(device_id)
        credentials = await self._verified(username, password, address)
        try:
            return await self._start(credentials.user_id, device_id, device_name, credentials.password_hash)
        except ChatError as error:
            if error.code is not Code.WRONG_CREDENTIALS:
                raise
        # The hash is another by now: of a new password, or another log-in has only made it anew.
        credentials = await self._verified(username, password, address)
        return await self._start(credentials.user_id, device_id, device_name, credentials.password_hash)

    async def _verified(self, username: str, password: str, address: str) -> Credentials:
        name = username.lower()
        known = len(name) <= self._live.limits.username_max_chars and USERNAME.fullmatch(name) is not None
        async with self._attempt(name, address):
            credentials = await self._store.credentials(name) if known else None
            credentials = await self._verify(credentials, password)
        if credentials.suspended:
            raise ChatError(Code.ACCOUNT_SUSPENDED)
        if self._passwords.outdated(credentials.password_hash):
            # Only in place of the hash that was verified: the password may be changed while this one is made.
            renewed, old = await self._passwords.hash(password), credentials.password_hash
            if await self._store.set_password(credentials.user_id, renewed, old):
                return msgspec.structs.replace(credentials, password_hash=renewed)
        return credentials

    async def first_sight(self, caller: Caller) -> None:
        """A device that an issuer's person names for the first time. Counted like a log-in, since anybody with a
        token can invent names. Raises ChatError(RATE_LIMITED | CONFLICT)."""
        most, window_s = self._live.rates.login_attempts, self._live.rates.login_window_s
        await self._hit(f"device:{caller.user_id}", "login_attempts", most, window_s)
        now = self._now()
        await self._add(Device(caller.device_id, caller.user_id, "", now, now), None)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Raises ChatError(UNAUTHENTICATED | TOKEN_EXPIRED | TOKEN_REUSED | DEVICE_REVOKED)."""
        new = new_refresh_token()
        result = await self._store.rotate_refresh(
            refresh_hash(refresh_token), refresh_hash(new), self._now(), self._refresh_expiry()
        )
        user_id, device_id = result.user_id, result.device_id
        match result.outcome:
            case RefreshOutcome.ROTATED if user_id is not None and device_id is not None:
                return self._tokens_of(Caller(user_id, device_id), new)
            case RefreshOutcome.REUSED:
                if user_id is not None and device_id is not None:
                    log.warning("refresh.reused", extra={"user_id": user_id, "device_id": device_id})
                    await self._ended(user_id, [device_id])
                raise ChatError(Code.TOKEN_REUSED, field="refresh_token")
            case RefreshOutcome.EXPIRED:
                raise ChatError(Code.TOKEN_EXPIRED, field="refresh_token")
            case RefreshOutcome.REVOKED:
                raise ChatError(Code.DEVICE_REVOKED, field="refresh_token")
            case _:
                raise ChatError(Code.UNAUTHENTICATED, "The refresh token is not valid", field="refresh_token")

    async def change_password(self, caller: Caller, current: str, new: str, keep_others: bool) -> None:
        """Logs the other devices out, unless told not to. Raises ChatError."""
        self._own_accounts_only()
        check_password(new, self._live.limits, "new")
        user = (await self._store.users([caller.user_id])).get(caller.user_id)
        if user is None:
            raise ChatError(Code.USER_NOT_FOUND)
        async with self._attempt(user.username, f"device:{caller.device_id}"):
            credentials = await self._verify(await self._store.credentials(user.username), current)
        renewed = await self._passwords.hash(new)
        if not await self._store.set_password(caller.user_id, renewed, credentials.password_hash):
            raise ChatError(Code.CONFLICT, "The password was changed at the same moment", field="current")
        # A log-in with the old password has added its device before this, and is in the list; or it is refused.
        if not keep_others:
            devices = await self._store.devices(caller.user_id)
            others = [device.device_id for device in devices if device.device_id != caller.device_id]
            if others:
                await self.log_out(caller.user_id, others)

    async def confirm(self, caller: Caller, password: str, name: str) -> None:
        """That it is the person who asks, before something that cannot be undone: by the password, or, of a person of
        an issuer, who has none here, by the user name. Raises ChatError(WRONG_CREDENTIALS | USER_NOT_FOUND)."""
        user = (await self._store.users([caller.user_id])).get(caller.user_id)
        credentials = None if user is None else await self._store.credentials(user.username)
        if user is None or credentials is None:
            raise ChatError(Code.USER_NOT_FOUND)
        if credentials.password_hash:
            async with self._attempt(user.username, f"device:{caller.device_id}"):
                await self._verify(credentials, password)
        elif name.lower() != user.username.lower():
            raise ChatError(Code.WRONG_CREDENTIALS, "confirm: is not your user name", field="confirm")

    async def log_out(self, user_id: str, device_ids: list[str] | None) -> list[str]:
        """End these (None: all) log-ins of the person; those that were live. Their sockets close at once."""
        ended = await self._store.revoke_devices(user_id, device_ids, self._now())
        await self._ended(user_id, ended)
        return ended

    async def _ended(self, user_id: str, device_ids: list[str]) -> None:
        self._liveness.drop(device_ids)
        await self._announcer.revoked(user_id, device_ids)

    async def _verify(self, credentials: Credentials | None, password: str) -> Credentials:
        stored = credentials.password_hash if credentials is not None else None
        if not await self._passwords.verify(stored, password) or credentials is None:
            raise ChatError(Code.WRONG_CREDENTIALS)
        return credentials

    async def _start(
        self, user_id: str, device_id: str | None, name: str, password_hash: str | None = None
    ) -> Tokens:
        """`password_hash`: the one that was verified; if it is no longer the account's, WRONG_CREDENTIALS."""
        now = self._now()
        live = await self._store.devices(user_id)
        if device_id is not None and device_id not in {device.device_id for device in live}:
            old = await self._store.device(device_id)
            if old is not None and (old.revoked_at or 0) > now - self._settings.access_token_ttl_s * 1000:
                # Reviving a device so soon would revive the access tokens that its log-out has just ended.
                device_id = None
        caller = Caller(user_id, device_id or new_device_id())
        await self._add(Device(caller.device_id, user_id, name, now, now), password_hash)
        refresh_token = new_refresh_token()
        await self._store.put_refresh(
            refresh_hash(refresh_token), user_id, caller.device_id, self._refresh_expiry()
        )
        if live:
            self._announcer.devices_changed(user_id)
        return self._tokens_of(caller, refresh_token)

    async def _add(self, device: Device, password_hash: str | None) -> None:
        """Refusing one too many would lock out for ever who has lost old devices: the one unseen for longest gives
        way."""
        surplus = await self._store.add_device(device, self._live.limits.devices_max, password_hash)
        if surplus:
            await self._ended(device.user_id, surplus)

    def _tokens_of(self, caller: Caller, refresh_token: str) -> Tokens:
        access_token, expires_at = self._tokens.issue(caller)
        return Tokens(caller.user_id, caller.device_id, access_token, refresh_token, expires_at)

    def _refresh_expiry(self) -> int:
        return self._now() + int(self._settings.refresh_token_ttl_s * 1000)

    def _own_accounts_only(self) -> None:
        if not self._settings.own_accounts:
            raise ChatError(Code.FORBIDDEN, "Accounts are an issuer's: log in there")

    @asynccontextmanager
    async def _attempt(self, username: str, address: str) -> AsyncIterator[None]:
        """Count a try against the account and the address; what turns out right is given back.

        Counting first keeps many tries at once from slipping past the limit together. Right ones at the same
        time from one address (an office) wait for each other instead of being refused for each other.
        """
        most, window_s = self._live.rates.login_attempts, self._live.rates.login_window_s
        account = "login:account:" + hashlib.sha256(username.encode()).hexdigest()[:32]
        place = f"login:address:{address}"
        if len(self._tries_of_address) > _ATTEMPTS_REMEMBERED_MAX:
            self._tries_of_address.clear()
        turns = self._tries_of_address.setdefault(address, asyncio.Semaphore(max(1, most // 2)))
        async with turns:
            for name in (account, place):
                await self._hit(name, "login_attempts", most, window_s)
            try:
                yield
            except ChatError as error:
                if error.code is not Code.WRONG_CREDENTIALS:
                    await self._give_back([account, place])
                raise
            await self._give_back([account, place])

    async def _hit(self, name: str, field: str, most: int, window_s: float) -> None:
        wait_s = await self._limiter.hit(name, most / window_s, most)
        if wait_s > 0:
            raise rate_limited(wait_s, field, most)

    async def _give_back(self, names: list[str]) -> None:
        most, window_s = self._live.rates.login_attempts, self._live.rates.login_window_s
        for name in names:
            await self._limiter.hit(name, most / window_s, most, -1)

    def new_user(self, username: str, display_name: str) -> User:
        return User(new_user_id(), username, display_name, self._now())
