"""A store's URL as it may be shown."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown_url(url: str) -> str:
    """Without user, password and parameters: any of them may be a secret. Of what is not written as a URL should be
    (a password with `/`, `?` or `#` in it) nothing is shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "not a URL"
    beside_host = parts.path + ("" if "@" in parts.netloc else parts.query + parts.fragment)
    if parts.scheme != "sqlite" and (not parts.netloc or "@" in beside_host):
        return "not a URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
