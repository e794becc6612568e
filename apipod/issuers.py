"""Tokens of the user's own issuer: verified by the issuer's published keys (JWKS), fetched and cached."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import jwt
from msgspec import Struct

from chatkernel.access_tokens import NO_TIME_CHECKS, check_expiry, unauthenticated
from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.settings import Issuer

log = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
REFETCH_INTERVAL_S = 10.0
"""An unknown key id makes us ask the issuer again at most this often: anybody can invent key ids."""
FETCH_TIMEOUT_S = 5.0
JWKS_MAX_BYTES = 1024 * 1024
LEEWAY_S = 30.0
"""Clocks of issuers may differ from ours by this much."""
SUBJECT_MAX_CHARS = 255

Monotonic = Callable[[], float]


class Subject(Struct, frozen=True):
    """Whom a foreign token speaks for, and what the issuer says of them. `expires_at` in Unix ms."""

    issuer: str
    subject: str
    username: str
    display_name: str
    expires_at: int


class KeySet:
    """The keys of one issuer. Fetches are one at a time; keys that were good stay when a fetch fails."""

    def __init__(self, settings: Issuer, client: httpx.AsyncClient, monotonic: Monotonic) -> None:
        self._settings, self._client, self._monotonic = settings, client, monotonic
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK:
        """Raises ChatError(UNAUTHENTICATED) for an unknown key, ChatError(BUSY) when there are no keys at
        all."""
        if self._stale() or kid not in self._keys:
            async with self._lock:
                if (self._stale() or kid not in self._keys) and self._may_try():
                    await self._fetch()
        found = self._keys.get(kid)
        if found is not None:
            return found
        if self._fetched_at is None:
            detail = "The issuer's keys cannot be fetched"
            raise ChatError(Code.BUSY, detail, field="Authorization", retry_after_s=REFETCH_INTERVAL_S)
        raise unauthenticated("The token's key is not one of its issuer's")

    def _stale(self) -> bool:
        return self._fetched_at is None or self._monotonic() - self._fetched_at >= self._settings.jwks_cache_s

    def _may_try(self) -> bool:
        return self._tried_at is None or self._monotonic() - self._tried_at >= REFETCH_INTERVAL_S

    async def _fetch(self) -> None:
        self._tried_at = self._monotonic()
        try:
            async with self._client.stream("GET", self._settings.jwks_url) as response:
                response.raise_for_status()
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > JWKS_MAX_BYTES:
                        raise ValueError("the key set is too large")
            keys = jwt.PyJWKSet.from_json(body.decode())
        except (httpx.HTTPError, jwt.PyJWTError, ValueError) as error:
            log.warning("jwks.fetch_failed", extra={"issuer": self._settings.issuer, "error": str(error)})
            return
        self._keys = {key.key_id: key for key in keys.keys if key.key_id and _may_sign(key)}
        self._fetched_at = self._monotonic()


def _may_sign(key: jwt.PyJWK) -> bool:
    return key.public_key_use in (None, "sig") and key.key_type in ("RSA", "EC", "OKP")


class Issuers:
    """Verifies tokens of the configured issuers."""

    def __init__(
        self, issuers: Sequence[Issuer], client: httpx.AsyncClient, now: NowMs, monotonic: Monotonic
    ) -> None:
        self._now = now
        self._client = client
        self._issuers = {entry.issuer: (entry, KeySet(entry, client, monotonic)) for entry in issuers}

    async def verify(self, token: str, header: dict[str, Any]) -> Subject:
        """Raises ChatError(UNAUTHENTICATED | TOKEN_EXPIRED | BUSY)."""
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS or not isinstance(kid, str):
            raise unauthenticated(f"Tokens must be signed by one of {', '.join(ALGORITHMS)}, with a key id")
        settings, keys = self._named_by(token)
        key = await keys.key(kid)
        try:
            if key.algorithm_name != algorithm:
                raise unauthenticated("The token's algorithm is not its key's")
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                options={**NO_TIME_CHECKS, "require": ["exp", "sub", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise unauthenticated("The token is not valid") from error
        return self._subject(settings, claims)

    async def aclose(self) -> None:
        await self._client.aclose()

    def _named_by(self, token: str) -> tuple[Issuer, KeySet]:
        try:
            claims = jwt.decode(token, options={"verify_signature": False, **NO_TIME_CHECKS})
        except jwt.PyJWTError as error:
            raise unauthenticated("The access token is not a JWT") from error
        name = claims.get("iss")
        entry = self._issuers.get(name) if isinstance(name, str) else None
        if entry is None:
            raise unauthenticated("The token's issuer is not known here")
        return entry

    def _subject(self, settings: Issuer, claims: dict[str, Any]) -> Subject:
        expires_s, not_before_s, subject = claims["exp"], claims.get("nbf", 0), claims["sub"]
        if not (isinstance(expires_s, int | float) and isinstance(not_before_s, int | float)):
            raise unauthenticated("The token's times are not numbers")
        if not (isinstance(subject, str) and 0 < len(subject) <= SUBJECT_MAX_CHARS):
            raise unauthenticated("The token's subject cannot be used")
        now = self._now()
        check_expiry(expires_s, now, LEEWAY_S)
        if now < (not_before_s - LEEWAY_S) * 1000:
            raise unauthenticated("The token is not valid yet")
        username = username_from(str(claims.get(settings.username_claim, "")), settings.issuer, subject)
        display_name = display_name_from(str(claims.get("name", "")), username)
        return Subject(settings.issuer, subject, username, display_name, int((expires_s + LEEWAY_S) * 1000))


def username_from(claim: str, issuer: str, subject: str) -> str:
    """A user name by our rules for what the issuer calls the person (`Anna@corp` becomes `anna`)."""
    plain = unicodedata.normalize("NFKD", claim.partition("@")[0]).lower()
    cleaned = re.sub(r"[^a-z0-9_.-]+", "-", plain.encode("ascii", "ignore").decode()).strip("-.")[:24]
    if len(cleaned) >= 3:
        return cleaned
    return "user-" + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:12]


def display_name_from(claim: str, username: str) -> str:
    kept = "".join(char for char in claim if char.isprintable()).strip()[:80]
    return kept or username
