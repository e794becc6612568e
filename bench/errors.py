"""What ends a bench."""

from __future__ import annotations


class BenchError(Exception):
    """Something that was measured did not work; the message says what."""
