"""Which ports Redis and the stores are reached at, for NetworkPolicies."""

from __future__ import annotations

from urllib.parse import urlsplit

from chatkernel.redis_url import Topology, parse_redis_url
from chatkernel.storage.url import parts_of
from chatoperator.manifests import names

DEFAULT = {names.REDIS: 6379, names.POSTGRESQL: 5432, names.MONGODB: 27_017}
"""Where the servers that are run for trying out listen, too."""


def redis_ports(url: str) -> tuple[int, ...]:
    """Empty: any, since Sentinels and clusters tell their servers' addresses themselves. Raises RedisUrlError."""
    where = parse_redis_url(url)
    if where.topology is not Topology.ONE:
        return ()
    return tuple(sorted({address.port for address in where.hosts}))


def store_ports(url: str) -> tuple[int, ...]:
    """Of one store, or of both of two in one URL. Empty: any, since the servers of a MongoDB tell each other's
    addresses themselves."""
    found: set[int] = set()
    for part in map(urlsplit, parts_of(url)):
        if not part.scheme.startswith("postgres"):
            return ()
        hosts = part.netloc.rpartition("@")[2].split(",")
        found.update(_port(host, DEFAULT[names.POSTGRESQL]) for host in hosts)
    return tuple(sorted(found))


def _port(host: str, default: int) -> int:
    _, _, port = host.rpartition("]")[2].partition(":")
    return int(port) if port.isdigit() else default
