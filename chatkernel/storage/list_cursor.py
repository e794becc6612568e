"""The cursor of a list that is newest first: where a page ended, as text that only the store reads."""

from __future__ import annotations

from chatkernel.errors import invalid


def cursor_of(number: int, line_id: str) -> str:
    """Of the last line of a page: what the list is sorted by, and its id where several have the same."""
    return f"{number}.{line_id}"


def parse_cursor(cursor: str | None) -> tuple[int, str]:
    """The same back; None: before the first line. Raises ChatError(INVALID_FIELD)."""
    if cursor is None:
        return (1 << 53), ""
    number, dot, line_id = cursor.partition(".")
    if not (number.isascii() and number.isdigit() and len(number) <= 16 and dot and line_id):
        raise invalid("cursor", "not one that a page gave")
    return int(number), line_id
