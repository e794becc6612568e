"""What a store's URL says of itself: its kind, its servers, and what of it may be shown."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from chatkernel.addresses import Address, addresses_of

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_BETWEEN = re.compile(rf"\s+(?={SCHEME.pattern})", re.IGNORECASE)


def parts_of(url: str) -> list[str]:
    """The URLs in it, at least one: that of a store, or those of the messages and of the directory with a space in
    between. A path may have spaces in it."""
    return _BETWEEN.split(url.strip())


PORTS = {"postgresql": 5432, "mongodb": 27_017}
"""Where the servers of a scheme listen if nothing else is said."""
ALIASES = {"postgres": "postgresql"}


class StoreUrlError(ValueError):
    """The URL cannot be used. The message says why, and nothing that is in it."""


def scheme_of(url: str) -> str:
    """Without what follows a +, and one word for each kind of store. "": it does not begin as a URL does, and may be
    anything, a password too."""
    if not SCHEME.match(url):
        return ""
    scheme = url.partition(":")[0].partition("+")[0].lower()
    return ALIASES.get(scheme, scheme)


def servers_of(url: str) -> tuple[Address, ...]:
    """Those that a PostgreSQL or MongoDB URL names; empty where its options do. Raises StoreUrlError."""
    scheme = scheme_of(url)
    if scheme not in PORTS:
        raise StoreUrlError("must begin with postgresql:// or mongodb://")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise StoreUrlError("is not a URL") from None  # its message quotes the URL
    if scheme != "mongodb" and {"host", "port"} & dict(parse_qsl(parts.query)).keys():
        return ()
    try:
        return addresses_of(parts.netloc.rpartition("@")[2], PORTS[scheme])
    except ValueError as error:
        raise StoreUrlError(str(error)) from None


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
