"""Which ports Redis and the stores are reached at, for NetworkPolicies."""

from __future__ import annotations

from chatkernel.redis_url import Topology, parse_redis_url
from chatkernel.storage.url import parts_of, scheme_of, servers_of
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
    addresses themselves. Raises StoreUrlError."""
    found: set[int] = set()
    for part in parts_of(url):
        servers = servers_of(part)
        if scheme_of(part) == names.MONGODB:
            return ()
        found.update(server.port for server in servers)
    return tuple(sorted(found))
