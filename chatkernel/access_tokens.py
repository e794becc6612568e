"""Access tokens: short-lived JWTs of one device, which is a log-in (HS256, with key ids)."""

from __future__ import annotations

import hashlib
from typing import Any

import jwt
from jwt.types import Options
from msgspec import Struct

from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.settings import SecretFile

ALGORITHM = "HS256"
NO_TIME_CHECKS: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
"""PyJWT reads the system's clock; times are checked here, against the clock that is passed in."""


class Caller(Struct, frozen=True):
    """Who asks."""

    user_id: str
    device_id: str


class Verified(Struct, frozen=True):
    """A token that was found good, and until when it is (Unix ms)."""

    caller: Caller
    expires_at: int


def unauthenticated(detail: str = "") -> ChatError:
    return ChatError(Code.UNAUTHENTICATED, detail, field="Authorization")


def _key(secret: str) -> bytes:
    return hashlib.sha256(b"chatcluster access token\0" + secret.encode()).digest()


class AccessTokens:
    """Issues with the first signing key, verifies with all of them."""

    def __init__(self, secret_file: SecretFile, ttl_s: float, now: NowMs) -> None:
        first = secret_file.signing_keys[0]
        self._kid, self._signing_key = first.kid, _key(first.secret)
        self._keys = {key.kid: _key(key.secret) for key in secret_file.signing_keys}
        self._ttl_s, self._now = ttl_s, now

    def issue(self, caller: Caller) -> tuple[str, int]:
        """The token and when it expires (Unix ms)."""
        issued_s = self._now() // 1000
        expires_s = issued_s + max(1, int(self._ttl_s))
        claims = {"sub": caller.user_id, "dev": caller.device_id, "iat": issued_s, "exp": expires_s}
        token = jwt.encode(claims, self._signing_key, ALGORITHM, headers={"kid": self._kid})
        return token, expires_s * 1000

    def knows(self, header: dict[str, Any]) -> bool:
        """Whether a token with this header claims to be ours."""
        return header.get("alg") == ALGORITHM and header.get("kid") in self._keys

    def verify(self, token: str, header: dict[str, Any]) -> Verified:
        """Raises ChatError(UNAUTHENTICATED | TOKEN_EXPIRED). `header` is the token's, with a key id we
        know."""
        try:
            claims = jwt.decode(
                token, self._keys[header["kid"]], algorithms=[ALGORITHM], options=NO_TIME_CHECKS
            )
        except jwt.InvalidTokenError as error:
            raise unauthenticated("The access token is not valid") from error
        user_id, device_id = claims.get("sub"), claims.get("dev")
        expires_s = claims.get("exp")
        if not (isinstance(user_id, str) and isinstance(device_id, str) and isinstance(expires_s, int)):
            raise unauthenticated("The access token lacks a claim")
        check_expiry(expires_s, self._now())
        return Verified(Caller(user_id, device_id), expires_s * 1000)


def check_expiry(expires_s: float, now_ms: int, leeway_s: float = 0.0) -> None:
    """Raises ChatError(TOKEN_EXPIRED)."""
    if now_ms >= (expires_s + leeway_s) * 1000:
        raise ChatError(Code.TOKEN_EXPIRED, field="Authorization")


def token_header(token: str) -> dict[str, Any]:
    """The unverified header. Raises ChatError(UNAUTHENTICATED)."""
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise unauthenticated("The access token is not a JWT") from error
    return header
