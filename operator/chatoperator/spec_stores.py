"""Where a cluster's data and its traffic between pods live: Redis, and MongoDB or PostgreSQL."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from chatoperator.spec_part import DnsLabel, EnvName, ObjectName, SpecPart, Url


class SecretKey(SpecPart, frozen=True):
    """One value of a Secret in the cluster's namespace."""

    name: Annotated[ObjectName, Meta(description="The Secret")]
    key: Annotated[
        str,
        Meta(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="The key in its `data`"),
    ]


class UrlFrom(SpecPart, frozen=True):
    """Where a URL with a password is read, so that it is not in the resource."""

    env: Annotated[
        EnvName | None, Meta(description="An environment variable, read when the cluster starts. Laptop only")
    ] = None
    file: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4096)] | None,
        Meta(description="A file that holds it, read when the cluster starts. Laptop only"),
    ] = None
    secret: Annotated[
        SecretKey | None, Meta(description="A Secret that holds it, mounted into pods. Kubernetes only")
    ] = None


InsteadOfUrl = Annotated[UrlFrom | None, Meta(description="Where the URL is read, instead of `url`")]
InPod = Annotated[
    bool,
    Meta(
        description="The operator runs one whose data goes with its pod, instead of `url`. Kubernetes only, "
        "and not for production"
    ),
]


class Tls(SpecPart, frozen=True):
    """How the server's certificate is checked, if the URL asks for TLS. Kubernetes only: elsewhere by the URL."""

    ca_secret: Annotated[
        SecretKey | None,
        Meta(description="Certificates (PEM) of who may have signed it; absent: those that the image trusts"),
    ] = None
    insecure_skip_verify: Annotated[
        bool, Meta(description="Any certificate will do: anybody in between can read and change everything")
    ] = False


class Redis(SpecPart, frozen=True):
    """Where presence, the bus and the registry live. Nothing in it needs to last."""

    url: Annotated[
        Url | None,
        Meta(
            description="One server (redis://), a primary under Sentinels (redis+sentinel://) or a cluster "
            "(redis+cluster://), by TLS with rediss; absent: an embedded server (laptop only)"
        ),
    ] = None
    url_from: InsteadOfUrl = None
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]+$",
            min_length=1,
            max_length=64,
            description="What all keys begin with, before the cluster's name (on Kubernetes `NAMESPACE/NAME`): for "
            "clusters of one name in one Redis. Never changed",
        ),
    ] = "chat"
    tls: Tls = Tls()
    development: Annotated[
        bool, Meta(description="The operator runs one, in memory, instead of `url`. Not for production")
    ] = False


class StorageZone(SpecPart, frozen=True):
    """A region of a sharded MongoDB."""

    region: Annotated[DnsLabel, Meta(description="Channels whose ids begin with it")]
    shards: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=256)]],
        Meta(max_length=1000, description="The shards that keep them; none: any, but split beforehand"),
    ] = []


class MongoDb(SpecPart, frozen=True):
    """Everything that may never be lost, in MongoDB."""

    url: Annotated[
        Url | None,
        Meta(description="mongodb:// or mongodb+srv://, with the database's name; better without a password"),
    ] = None
    url_from: InsteadOfUrl = None
    tls: Tls = Tls()
    zones: Annotated[
        list[StorageZone],
        Meta(
            max_length=100,
            description="Where a sharded MongoDB keeps which region",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["region"]},
        ),
    ] = []
    development: InPod = False


class PostgreSql(SpecPart, frozen=True):
    """Everything that may never be lost, in PostgreSQL."""

    url: Annotated[
        Url | None,
        Meta(description="postgresql://, with the database's name; better without a password"),
    ] = None
    url_from: InsteadOfUrl = None
    tls: Tls = Tls()
    development: InPod = False
