"""The rule of refresh tokens, for every adapter.

A token is used once. Whoever shows it again is a thief, or the device itself, which never got the answer: as long as
nobody has used the successor and not much time has passed, it gets another one, and the successor that was lost is
replaced. Should it turn up all the same, two have been going on from one token, and the device is logged out.
"""

from __future__ import annotations

RETRY_GRACE_MS = 300_000
"""How long after its use a token may be shown again if the answer was lost: a store that is away for a minute, a
phone in a tunnel."""

REPLACED = 0
"""`used_at` of a token that was replaced before anybody used it."""


def may_be_retried(used_at: int, now: int) -> bool:
    """Whether a used token is young enough, given that its successor was not used."""
    return used_at != REPLACED and now - used_at <= RETRY_GRACE_MS
