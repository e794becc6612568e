"""Where pods find Redis and the store: a URL in the resource or in a Secret, or what is run for trying out."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from chatoperator.manifests import names
from chatoperator.spec import ChatCluster, MongoDb, PostgreSql, Redis, SecretKey, Tls

_Server: TypeAlias = Redis | MongoDb | PostgreSql


def url_key(component: str) -> str:
    """Where the Secret `names.development` has the URL of what is run for trying out."""
    return f"{component}-url"


class SourceError(ValueError):
    """The resource names no Redis, no store or no key server that pods could reach."""


class Role(StrEnum):
    """What a server is to the pods; also the name of its volume, and the beginning of its settings."""

    REDIS = "redis"
    STORE = "store"
    DIRECTORY = "directory"
    """Of people, where it is apart from the messages."""

    @property
    def ca_file(self) -> str:
        return f"{names.TRUST_DIR}/{self.ca_key}"

    @property
    def ca_key(self) -> str:
        """The file in `names.TRUST_DIR`."""
        return f"{self}.crt"

    @property
    def url_file(self) -> str:
        return f"{DIRS[self]}/{names.URL_KEY}"


DIRS = {Role.REDIS: names.REDIS_DIR, Role.STORE: names.STORE_DIR, Role.DIRECTORY: names.DIRECTORY_DIR}
"""Where the URLs are mounted."""


class Source(Struct, frozen=True):
    """`component` is `redis`, `postgresql` or `mongodb`; exactly one of `url` and `secret` is given."""

    role: Role
    component: str
    url: str
    secret: SecretKey | None
    tls: Tls
    development: bool


def redis(cluster: ChatCluster) -> Source:
    """Raises SourceError."""
    return _source(cluster, Role.REDIS, names.REDIS, cluster.spec.redis)


def stores(cluster: ChatCluster) -> tuple[Source, ...]:
    """That of the messages, and that of the directory of people where it is another. Raises SourceError."""
    spec = cluster.spec
    named = [
        (component, server)
        for component, server in ((names.MONGODB, spec.mongodb), (names.POSTGRESQL, spec.postgresql))
        if server is not None
    ]
    if not named:
        raise SourceError("spec names neither mongodb nor postgresql")
    roles = (Role.STORE, Role.DIRECTORY)
    return tuple(_source(cluster, role, *one) for role, one in zip(roles, named, strict=False))


def servers(cluster: ChatCluster) -> tuple[Source, ...]:
    """Redis and the stores. Raises SourceError."""
    return (redis(cluster), *stores(cluster))


def _source(cluster: ChatCluster, role: Role, component: str, server: _Server) -> Source:
    if server.development:
        secret = SecretKey(name=names.development(cluster.metadata.name), key=url_key(component))
        return Source(role, component, "", secret, Tls(), True)
    if server.url_from is not None and server.url_from.secret is not None:
        return Source(role, component, "", server.url_from.secret, server.tls, False)
    if server.url:
        return Source(role, component, server.url, None, server.tls, False)
    raise SourceError(f"spec.{component} says neither url nor urlFrom.secret nor development")
