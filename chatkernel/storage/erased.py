"""What an erasure takes away, and what stays of a person's names: digests. For every adapter."""

from __future__ import annotations

import hashlib

from chatkernel.protocol import EventKind

WRITTEN_KINDS = (EventKind.MESSAGE.value, EventKind.EDIT.value, EventKind.REACTION.value)
"""Events that hold what a person wrote."""
SUBJECT_HOLD_MS = 24 * 3_600_000
"""How long an issuer's subject gets no new account after its erasure: a device that still has a token would otherwise
make one within moments."""


def username_digest(key: str) -> str:
    return _digest("username", key)


def subject_digest(issuer: str, subject: str) -> str:
    return _digest("subject", f"{issuer}\n{subject}")


def _digest(kind: str, value: str) -> str:
    """Of values that can be guessed it hides none from who guesses; it keeps a list of names from lying about."""
    return hashlib.sha256(f"chatcluster erased {kind}\0{value}".encode()).hexdigest()
