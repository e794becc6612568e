"""Refresh tokens: opaque, of one device, which is a log-in."""

from __future__ import annotations

import hashlib
import secrets


def new_refresh_token() -> str:
    return "rt_" + secrets.token_urlsafe(32)


def refresh_hash(token: str) -> str:
    """All that is stored of a refresh token. It has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()
