"""The token with which the operator speaks to a pod's operations routes (`/drain`): derived, never stored."""

from __future__ import annotations

import hmac

from chatkernel.settings import SecretFile


def ops_token(secrets: SecretFile) -> str:
    return hmac.digest(secrets.signing_keys[0].secret.encode(), b"chatcluster operations", "sha256").hex()


def check_ops_token(secrets: SecretFile, authorization: str | None) -> bool:
    """Whether an `Authorization` header holds the token of any present signing key."""
    given = (authorization or "").removeprefix("Bearer ").encode()
    return any(
        hmac.compare_digest(
            given, hmac.digest(key.secret.encode(), b"chatcluster operations", "sha256").hex().encode()
        )
        for key in secrets.signing_keys
    )
