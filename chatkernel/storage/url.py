"""A store's URL as it may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_BETWEEN = re.compile(rf"\s+(?={SCHEME.pattern})", re.IGNORECASE)


def parts_of(url: str) -> list[str]:
    """The URLs in it, at least one: that of a store, or those of the messages and of the directory with a space in
    between. A path may have spaces in it."""
    return _BETWEEN.split(url.strip())


def shown_url(url: str) -> str:
    """Of each of its `parts_of`, see `_shown`."""
    return " ".join(map(_shown, parts_of(url)))


def _shown(url: str) -> str:
    """Without user, password and parameters: any of them may be a secret. Of what is not written as a URL should be
    (a password with `/`, `?` or `#` in it) nothing is shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "not a URL"
    beside_host = parts.path + ("" if "@" in parts.netloc else parts.query + parts.fragment)
    strange = "://" in beside_host if parts.scheme == "sqlite" else not parts.netloc or "@" in beside_host
    if strange:
        return "not a URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
