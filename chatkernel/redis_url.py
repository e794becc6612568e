"""Where Redis is: one server, a primary under Sentinels, or a cluster, written as a URL.

    redis://user:password@host:6379/0                            one server; rediss:// is TLS, unix:///path a socket
    redis+sentinel://user:password@host:26379,host2:26379/service/0
    redis+cluster://user:password@host:6379,host2:6379

`rediss+sentinel://` and `rediss+cluster://` are the same by TLS. What is in front of `@` is for the servers that hold
data; `?sentinel_username=…&sentinel_password=…` is for Sentinels that ask, too. Nothing here connects, and nothing
that it says holds a user or a password.
"""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from msgspec import Struct

from chatkernel.addresses import Address, addresses_of

PORT = 6379
SENTINEL_PORT = 26379

TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"}
    | {"ssl_cert_reqs", "ssl_check_hostname"}
)
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
OPTIONS = frozenset({"db", "client_name"})


class Topology(StrEnum):
    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


SCHEMES = {
    "redis": (Topology.ONE, False),
    "rediss": (Topology.ONE, True),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}


class RedisUrlError(ValueError):
    """The URL cannot be used. The message says why, without what is in the URL that is secret."""


class RedisUrl(Struct, frozen=True):
    """`hosts`: the server, the Sentinels, or the nodes of a cluster that are asked first; empty for a Unix socket."""

    topology: Topology
    tls: bool
    hosts: tuple[Address, ...]
    path: str
    """Of a Unix socket."""
    userinfo: str
    service: str
    db: int
    options: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"RedisUrl({self.shown})"

    @property
    def shown(self) -> str:
        """For people and logs."""
        where = self.path or ",".join(map(str, self.hosts))
        return f"{where} ({self.service})" if self.service else where

    def server_at(self, address: Address | None) -> str:
        """The plain URL of a server that holds data; a Unix socket has no address."""
        options = [pair for pair in self.options if pair[0] not in SENTINEL_OPTIONS]
        return self._plain(address, self.userinfo, self.db, options)

    def sentinel_at(self, address: Address) -> str:
        """The plain URL of a Sentinel."""
        given = dict(self.options)
        user, password = (
            quote(given.get(f"sentinel_{name}", ""), safe="") for name in ("username", "password")
        )
        options = [pair for pair in self.options if pair[0] in TLS_OPTIONS]
        return self._plain(address, f"{user}:{password}" if user or password else "", 0, options)

    def _plain(self, address: Address | None, userinfo: str, db: int, options: list[tuple[str, str]]) -> str:
        at = f"{userinfo}@" if userinfo else ""
        query = f"?{urlencode(options)}" if options else ""
        if self.path:
            return f"unix://{at}{quote(self.path)}?{urlencode([('db', str(db)), *options])}"
        return f"redis{'s' if self.tls else ''}://{at}{address}/{db}{query}"


def parse_redis_url(url: str) -> RedisUrl:
    """Raises RedisUrlError."""
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise RedisUrlError("is not a URL") from None  # its message quotes the URL
    if parts.fragment or "@" in parts.path or "@" in parts.query:
        # Most likely of a password, and what is in front of it would be taken for a host.
        raise RedisUrlError("holds a # or @ that is not written as %23 or %40")
    userinfo, _, hosts = parts.netloc.rpartition("@")
    if parts.scheme == "unix":
        _check_options(options, OPTIONS)
        if hosts or not parts.path:
            raise RedisUrlError("must name a socket: unix:///path")
        db = _database(dict(options).pop("db", ""))
        rest = tuple(pair for pair in options if pair[0] != "db")
        return RedisUrl(Topology.ONE, False, (), unquote(parts.path), userinfo, "", db, rest)
    if parts.scheme not in SCHEMES:
        raise RedisUrlError(f"must start with {', '.join(f'{scheme}://' for scheme in SCHEMES)} or unix://")
    topology, tls = SCHEMES[parts.scheme]
    allowed = OPTIONS | (TLS_OPTIONS if tls else frozenset())
    _check_options(options, allowed | (SENTINEL_OPTIONS if topology is Topology.SENTINEL else frozenset()))
    try:
        addresses = addresses_of(hosts, SENTINEL_PORT if topology is Topology.SENTINEL else PORT)
    except ValueError as error:
        raise RedisUrlError(str(error)) from None
    service, path = "", parts.path.strip("/")
    if topology is Topology.SENTINEL:
        service, _, path = path.partition("/")
        service = unquote(service)
        if not service:
            raise RedisUrlError("must name what the Sentinels watch: …/service or …/service/0")
    db = _database(dict(options).get("db") or path)
    if topology is Topology.ONE and len(addresses) > 1:
        raise RedisUrlError("names several hosts: that is for redis+sentinel:// and redis+cluster://")
    if topology is Topology.CLUSTER and db:
        raise RedisUrlError("names a database: a cluster has only 0")
    rest = tuple(pair for pair in options if pair[0] != "db")
    return RedisUrl(topology, tls, addresses, "", userinfo, service, db, rest)


def _check_options(options: list[tuple[str, str]], allowed: frozenset[str]) -> None:
    for name, _ in options:
        if name not in allowed:
            raise RedisUrlError(f"has an option that is not one of {', '.join(sorted(allowed))}")


def _database(text: str) -> int:
    if not text:
        return 0
    if not text.isdecimal():
        raise RedisUrlError("must name the database by its number")
    return int(text)
