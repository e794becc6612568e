"""The cursor of "my conversations": where a page ended, as text that only the store reads."""

from __future__ import annotations

from chatkernel.errors import invalid


def cursor_of(activity_id: int, channel_id: str) -> str:
    return f"{activity_id}.{channel_id}"


def parse_cursor(cursor: str | None) -> tuple[int, str]:
    """Activity and channel of the last line before the page; None: of before the first. Raises
    ChatError(INVALID_FIELD)."""
    if cursor is None:
        return (1 << 53), ""
    number, dot, channel_id = cursor.partition(".")
    if not (number.isascii() and number.isdigit() and len(number) <= 16 and dot and channel_id):
        raise invalid("cursor", "not one that a page gave")
    return int(number), channel_id
