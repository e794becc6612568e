"""Where pods find Redis and the store: a URL in the resource or in a Secret, or what is run for trying out."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from chatoperator.manifests import names
from chatoperator.spec import ChatCluster, MongoDb, PostgreSql, Redis, SecretKey, Tls

REDIS_CA = "redis.crt"
STORE_CA = "store.crt"
"""Files in `names.TRUST_DIR`."""

_Server: TypeAlias = Redis | MongoDb | PostgreSql


def url_key(component: str) -> str:
    """Where the Secret `names.development` has the URL of what is run for trying out."""
    return f"{component}-url"


class SourceError(ValueError):
    """The resource names no Redis or no store that pods could reach."""


class Source(Struct, frozen=True):
    """`component` is `redis`, `postgresql` or `mongodb`; exactly one of `url` and `secret` is given."""

    component: str
    url: str
    secret: SecretKey | None
    tls: Tls
    development: bool


def redis(cluster: ChatCluster) -> Source:
    """Raises SourceError."""
    return _source(cluster, names.REDIS, cluster.spec.redis)


def store(cluster: ChatCluster) -> Source:
    """Raises SourceError."""
    spec = cluster.spec
    if spec.postgresql is not None:
        return _source(cluster, names.POSTGRESQL, spec.postgresql)
    if spec.mongodb is not None:
        return _source(cluster, names.MONGODB, spec.mongodb)
    raise SourceError("spec names neither mongodb nor postgresql")


def both(cluster: ChatCluster) -> tuple[Source, Source]:
    """Redis and the store. Raises SourceError."""
    return redis(cluster), store(cluster)


def _source(cluster: ChatCluster, component: str, server: _Server) -> Source:
    if server.development:
        secret = SecretKey(name=names.development(cluster.metadata.name), key=url_key(component))
        return Source(component, "", secret, Tls(), True)
    if server.url_from is not None and server.url_from.secret is not None:
        return Source(component, "", server.url_from.secret, server.tls, False)
    if server.url:
        return Source(component, server.url, None, server.tls, False)
    raise SourceError(f"spec.{component} says neither url nor urlFrom.secret nor development")
