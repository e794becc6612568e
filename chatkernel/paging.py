"""How much goes into one page: bounded in bytes as well as in items, or a page of long texts would fill an outbox."""

from __future__ import annotations

from collections.abc import Sequence

from chatkernel.protocol import Event

ENVELOPE_BYTES = 300
"""About what an event's fields other than its text and metadata take on the wire."""

METADATA_BYTES = 2048
"""Counted for an event with metadata, whatever it holds: its limit by default."""


def event_bytes(event: Event) -> int:
    """About what the event takes as JSON: an upper estimate for usual texts, without encoding it."""
    return (
        ENVELOPE_BYTES
        + 4 * (0 if event.text is None or event.text.isascii() else len(event.text))
        + (0 if event.text is None else len(event.text))
        + (0 if event.metadata is None else METADATA_BYTES)
        + 24 * len(event.users or ())
    )


def within_bytes(events: Sequence[Event], max_bytes: int) -> int:
    """How many leading events fit into `max_bytes`; at least one if there is any."""
    total = 0
    for number, event in enumerate(events):
        total += event_bytes(event)
        if total > max_bytes:
            return max(1, number)
    return len(events)
