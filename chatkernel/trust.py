"""Whose certificates are trusted, written into the URL of Redis or of a store: each library reads it there."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from chatkernel.storage.url import parts_of

_REDIS_CA, _REDIS_ANY = "ssl_ca_certs", {"ssl_cert_reqs": "none", "ssl_check_hostname": "false"}


class TrustError(ValueError):
    """A CA, or none at all, was named for a URL that is not by TLS. The message does not quote the URL."""


def trusting_redis(url: str, ca_file: str = "", *, insecure: bool = False) -> str:
    """The URL with the file of CA certificates that its servers are trusted by, or with no trust asked for. What the
    URL says itself stands. Raises TrustError."""
    if not (ca_file or insecure):
        return url
    if not url.startswith("rediss"):
        raise TrustError("a CA was given for Redis, but its URL is not by TLS: it begins with rediss")
    return _with(url, _REDIS_ANY if insecure else {_REDIS_CA: ca_file})


def trusting_store(url: str, ca_file: str = "", *, insecure: bool = False) -> str:
    """The same for a store, or for both of two in one URL. Raises TrustError."""
    if not (ca_file or insecure):
        return url
    return " ".join(_trusting_store(part, ca_file, insecure=insecure) for part in parts_of(url))


def _trusting_store(url: str, ca_file: str, *, insecure: bool) -> str:
    if url.startswith("mongodb"):
        wanted = {"tlsInsecure": "true"} if insecure else {"tlsCAFile": ca_file}
        return _with(url, {"tls": "true", **wanted})
    if url.startswith("postgres"):
        return _with(
            url, {"sslmode": "require"} if insecure else {"sslmode": "verify-full", "sslrootcert": ca_file}
        )
    raise TrustError("a CA was given for a store that is not reached by TLS")


def _with(url: str, options: Mapping[str, str]) -> str:
    present = {pair.partition("=")[0].lower() for pair in url.partition("?")[2].split("&")}
    added = "&".join(
        f"{name}={quote(value, safe='/')}" for name, value in options.items() if name.lower() not in present
    )
    if not added:
        return url
    if "?" in url:
        return f"{url}&{added}" if present != {""} else url + added
    # A path has to be there before options may follow.
    return f"{url}?{added}" if "/" in url.partition("://")[2] else f"{url}/?{added}"
