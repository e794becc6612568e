"""User names as every adapter takes them."""

from __future__ import annotations

from collections.abc import Iterator

SUFFIX_TRIES = 10_000
"""Numbers tried behind a taken user name of a person of an issuer of their own."""


def username_key(username: str) -> str:
    """What is unique: user names differ by more than case."""
    return username.casefold()


def numbered(username: str) -> Iterator[str]:
    """`ann`, `ann-2`, `ann-3` …"""
    yield username
    for number in range(2, SUFFIX_TRIES):
        yield f"{username}-{number}"
