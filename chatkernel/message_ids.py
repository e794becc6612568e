"""Message ids: snowflake-style, 53 bits, from a clock that is passed in."""

from __future__ import annotations

from typing import NewType

MessageId = NewType("MessageId", int)

EPOCH_MS = 1_704_067_200_000
"""2024-01-01 00:00:00 UTC in Unix milliseconds: message ids count from here."""

COUNTER_BITS = 12
"""Low bits of a message id; the rest are milliseconds since EPOCH_MS."""

MAX_MESSAGE_ID = (1 << 53) - 1
"""The largest integer that a JavaScript number holds exactly."""

LATEST_MS = (MAX_MESSAGE_ID >> COUNTER_BITS) + EPOCH_MS
"""The last millisecond that a message id can hold (in 2093)."""


def message_id_at(unix_ms: int) -> MessageId:
    """The smallest message id of that millisecond."""
    return MessageId(max(0, unix_ms - EPOCH_MS) << COUNTER_BITS)


def next_message_id(unix_ms: int, previous: int) -> MessageId:
    """The id after `previous` in a channel: by the clock, or `previous + 1` if the clock is behind."""
    return MessageId(max(message_id_at(unix_ms), previous + 1))
