"""Which web origins may use the service: one rule for the API and for the sockets."""

from __future__ import annotations

from collections.abc import Sequence

ANY = "*"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class AllowedOrigins:
    """Only those named in `allowedOrigins`, `*` being any: a service's own address is no exception."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._any = ANY in allowed
        self._allowed = frozenset(map(_normal, allowed))

    def allows(self, origin: bytes | None) -> bool:
        """`origin`: the header as it came. Browsers always send one; a request without is not a browser's script."""
        return origin is None or self._any or _normal(origin.decode("latin-1")) in self._allowed


def _normal(origin: str) -> str:
    """As browsers write it: in small letters, without the default port, without a slash at the end."""
    text = origin.strip().lower().removesuffix("/")
    scheme = text.partition("://")[0]
    return text.removesuffix(_DEFAULT_PORTS.get(scheme, ""))
