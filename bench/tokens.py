"""Access tokens as the API signs them, without logging in."""

from __future__ import annotations

from chatkernel.access_tokens import AccessTokens, Caller
from chatkernel.ids import now_ms
from chatkernel.settings import SecretFile

TTL_S = 3600.0


def access_token(secret_file: SecretFile, user_id: str, device_id: str) -> str:
    return AccessTokens(secret_file, TTL_S, now_ms).issue(Caller(user_id, device_id))[0]
