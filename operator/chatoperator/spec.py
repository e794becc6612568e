"""The `ChatCluster` resource, typed once: what a person may ask for, with bounds, defaults, descriptions.

The YAML of the laptop and the Kubernetes resource are this same type; its descriptions become the reference
documentation. Field names are camelCase outside and snake_case here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from chatkernel.protocol import (
    PASSWORD_MAX_CHARS,
    PROFILE_FIELD_MAX_CHARS,
    USERNAME_MAX_CHARS,
    WATCHES_MAX,
)
from chatkernel.redis_url import RedisUrlError, parse_redis_url

API_VERSION: Literal["chatcluster.dev/v1alpha1"] = "chatcluster.dev/v1alpha1"
KIND: Literal["ChatCluster"] = "ChatCluster"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=256, le=16 * 1024 * 1024)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}[hd]$")]
DnsLabel = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]


class _Spec(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Immutable, compared by value, and nothing unknown gets in."""


class EnvVar(_Spec, frozen=True):
    """One environment variable of a pod."""

    name: Annotated[EnvName, Meta(description="Its name")]
    value: Annotated[str, Meta(max_length=4096, description="Its value")] = ""


class ChatPods(_Spec, frozen=True):
    """The pods that hold the WebSockets."""

    replicas: Annotated[int, Meta(ge=1, le=1000, description="How many chat pods")] = 2
    connections_per_pod: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections that discovery gives one pod at most")
    ] = 10_000
    hello_timeout_seconds: Annotated[
        float, Meta(gt=0, le=300, description="A connection that has not said hello after this is closed")
    ] = 10.0
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=300, description="A pod that is not heard of for this long is dead to discovery"),
    ] = 5.0
    env: Annotated[
        list[EnvVar], Meta(max_length=100, description="Environment variables of every chat pod")
    ] = []


class ApiPods(_Spec, frozen=True):
    """The pods that answer HTTP."""

    replicas: Annotated[int, Meta(ge=1, le=1000, description="How many API pods")] = 1
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="The port that clients use; 0 takes any free one")
    ] = 8080


class Worker(_Spec, frozen=True):
    """The pods that do what must not sit on the hot path."""

    replicas: Annotated[int, Meta(ge=1, le=100, description="How many workers")] = 1


class Drain(_Spec, frozen=True):
    """How a chat pod that is going moves its clients. A change makes no new pods."""

    deadline_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="After this what is left is closed, resumable")
    ] = 20.0
    rate_per_second: Annotated[
        float, Meta(gt=0, le=100_000, description="Clients told to move, per second")
    ] = 100.0


class Rebalance(_Spec, frozen=True):
    """Moving clients to pods that came back or were added. A change makes no new pods."""

    tolerance: Annotated[
        float,
        Meta(ge=1.01, le=10, description="A pod above mean times this sheds what is above the mean"),
    ] = 1.25
    cooldown_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="Pause between two rounds of shedding")
    ] = 30.0
    rate_per_second: Annotated[
        float, Meta(gt=0, le=100_000, description="Clients told to move, per second and pod")
    ] = 50.0


class Rollout(_Spec, frozen=True):
    """How pods of a new revision replace the old ones. A change makes no new pods."""

    surge: Annotated[
        int, Meta(ge=1, le=100, description="Pods above the desired number while a revision is replaced")
    ] = 1


class Presence(_Spec, frozen=True):
    """Who is online, and who is told."""

    heartbeat_seconds: Annotated[float, Meta(ge=0.1, le=3600, description="How often a device beats")] = 10.0
    offline_seconds: Annotated[
        float, Meta(ge=0.2, le=86_400, description="Silence after which a device is offline")
    ] = 30.0
    small_group_max: Annotated[
        int, Meta(ge=2, le=500, description="In groups of more members presence is read, not pushed")
    ] = 50


class Receipts(_Spec, frozen=True):
    """What people are told of who has read and got what."""

    interval_seconds: Annotated[
        float, Meta(gt=0, le=60, description="Receipts of one person within this are one frame")
    ] = 0.5
    members_max: Annotated[
        int, Meta(ge=1, le=100_000, description="In groups of more members receipts are read, not pushed")
    ] = 50


class LimitsSpec(_Spec, frozen=True):
    """The limits that clients are held to, and told in `welcome`."""

    frame_max_bytes: Annotated[Bytes, Meta(description="A frame")] = 256 * 1024
    text_max_bytes: Annotated[Bytes, Meta(description="The text of a message, in UTF-8")] = 16 * 1024
    metadata_max_bytes: Annotated[Bytes, Meta(description="A message's metadata object")] = 2 * 1024
    nesting_max_depth: Annotated[int, Meta(ge=1, le=64, description="Depth of a metadata object")] = 8
    sends_per_s: Annotated[Rate, Meta(description="Frames that write, per second and device, on one pod")] = (
        50.0
    )
    sends_burst: Annotated[
        Count, Meta(description="Frames that write, at once and per device, on one pod")
    ] = 200
    open_requests_max: Annotated[Count, Meta(description="Unanswered frames of one connection")] = 256
    channels_per_user_max: Annotated[Count, Meta(description="Channels that a user may be in")] = 10_000
    group_members_max: Annotated[int, Meta(ge=2, le=100_000, description="Members of a group")] = 500
    page_max_items: Annotated[int, Meta(ge=1, le=1000, description="Items of one page")] = 200
    cursors_max: Annotated[Count, Meta(description="Cursors in one hello or sync")] = 5_000
    watches_max: Annotated[
        int, Meta(ge=1, le=WATCHES_MAX, description="Users whose presence a device watches")
    ] = 200
    name_max_chars: Annotated[int, Meta(ge=1, le=1000, description="Names of users, groups, devices")] = 80
    outbox_max_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1 << 30,
            description="Unsent bytes of a connection; with more it is closed",
        ),
    ] = 1024 * 1024
    head_max_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 20, description="URL and headers of an HTTP request")
    ] = 64 * 1024
    head_timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="Seconds until they have arrived; later: 408, closed")
    ] = 10.0
    body_max_bytes: Annotated[Bytes, Meta(description="The body of an HTTP request")] = 256 * 1024
    body_timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="Seconds until it has arrived; later: 408, closed")
    ] = 15.0
    keep_alive_s: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds that an HTTP connection may wait for its next request")
    ] = 75
    friends_max: Annotated[Count, Meta(description="Friends of a user, and people whom a user blocks")] = (
        2_000
    )
    devices_max: Annotated[int, Meta(ge=1, le=10_000, description="Devices of a user")] = 50
    username_max_chars: Annotated[int, Meta(ge=32, le=USERNAME_MAX_CHARS, description="A user name")] = 32
    password_min_chars: Annotated[int, Meta(ge=1, le=64, description="A password, at least")] = 8
    password_max_chars: Annotated[
        int, Meta(ge=64, le=PASSWORD_MAX_CHARS, description="A password, at most")
    ] = 256
    about_max_chars: Annotated[
        int, Meta(ge=1, le=PROFILE_FIELD_MAX_CHARS, description="`about` of a profile")
    ] = 500
    avatar_url_max_chars: Annotated[
        int, Meta(ge=1, le=PROFILE_FIELD_MAX_CHARS, description="`avatar_url` of a profile")
    ] = 512
    settings_max_bytes: Annotated[Bytes, Meta(description="A user's settings, as JSON")] = 16 * 1024
    reactions_per_message_max: Annotated[Count, Meta(description="Different reactions to one message")] = 100
    sockets_per_device_max: Annotated[
        Count, Meta(description="Connections of one device to one pod; above, its oldest is closed")
    ] = 8
    reads_at_once_max: Annotated[
        Count,
        Meta(description="`history` and `sync` of one connection that are worked on at once; more wait"),
    ] = 4
    waiting_max_bytes: Annotated[
        int, Meta(ge=65_536, le=1 << 40, description="What waits in one pod to be stored; above, `busy`")
    ] = 64 * 1024 * 1024
    export_max_bytes: Annotated[
        int, Meta(ge=4096, le=1 << 40, description="The archive of a person's data; one that is larger fails")
    ] = 1024 * 1024 * 1024

    requests_at_once_max: Annotated[
        Count,
        Meta(
            description="Requests that one pod works on at once, besides plain sends and receipts; above, `busy`"
        ),
    ] = 2_000


class Retention(_Spec, frozen=True):
    """How long things are kept. What is older is removed for good."""

    messages: Annotated[
        Duration | None,
        Meta(
            description="Messages and everything else in a channel, in hours or days (`90d`), at least `1h`; groups "
            "may choose less; absent: for ever",
        ),
    ] = None


def duration_s(text: str) -> int:
    """Seconds of `12h` or `90d`."""
    return int(text[:-1]) * (3600 if text.endswith("h") else 86_400)


class IssuerSpec(_Spec, frozen=True):
    """An issuer of the user's own whose access tokens are accepted (RS256, ES256, EdDSA)."""

    issuer: Annotated[Url, Meta(description="The `iss` of its tokens")]
    jwks_url: Annotated[Url, Meta(description="Where its public keys are")]
    audience: Annotated[str, Meta(min_length=1, max_length=256, description="The `aud` of its tokens")]
    username_claim: Annotated[
        str, Meta(min_length=1, max_length=64, description="The claim that holds the user name")
    ] = "preferred_username"
    jwks_cache_seconds: Annotated[Seconds, Meta(description="How long its keys are remembered")] = 300.0


class Auth(_Spec, frozen=True):
    """Who may come in."""

    own_accounts: Annotated[bool, Meta(description="People sign up here, with user name and password")] = True
    issuers: Annotated[list[IssuerSpec], Meta(max_length=20, description="Token issuers accepted too")] = []
    allowed_origins: Annotated[
        list[Url], Meta(max_length=100, description="Web origins that may connect; `*` is any")
    ] = []
    access_token_ttl_seconds: Annotated[Seconds, Meta(description="Life of an access token")] = 600.0
    refresh_token_ttl_seconds: Annotated[
        float, Meta(gt=0, le=366 * 86_400, description="Life of a refresh token that is not used")
    ] = 60 * 86_400.0
    ticket_ttl_seconds: Annotated[
        float, Meta(gt=0, le=300, description="Life of a ticket from discovery")
    ] = 30.0
    login_attempts: Annotated[
        int, Meta(ge=1, le=10_000, description="Wrong passwords per account and per address in a window")
    ] = 10
    login_window_seconds: Annotated[Seconds, Meta(description="The window of `loginAttempts`")] = 60.0
    requests_per_s: Annotated[Rate, Meta(description="HTTP requests per second and device")] = 100.0
    requests_burst: Annotated[Count, Meta(description="HTTP requests at once and per device")] = 500
    user_requests_per_s: Annotated[
        Rate, Meta(description="HTTP requests per second and user, over all devices")
    ] = 400.0
    user_requests_burst: Annotated[Count, Meta(description="HTTP requests at once and per user")] = 2_000
    signups_per_address: Annotated[Count, Meta(description="Sign-ups per address and hour")] = 100_000


class Redis(_Spec, frozen=True):
    """Where presence, the bus and the registry live. Nothing in it needs to last."""

    url: Annotated[
        str | None,
        Meta(
            description="One server (redis://), a primary under Sentinels (redis+sentinel://) or a cluster "
            "(redis+cluster://), by TLS with rediss; absent: an embedded server (laptop only)"
        ),
    ] = None
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]+$",
            max_length=64,
            description="What all keys begin with, before the cluster's name: for clusters of one name in one Redis",
        ),
    ] = "chat"


class UrlFrom(_Spec, frozen=True):
    """Where a URL with a password is read when the cluster starts, so that it is not in this file."""

    env: Annotated[EnvName | None, Meta(description="An environment variable")] = None
    file: Annotated[
        Annotated[str, Meta(min_length=1, max_length=4096)] | None,
        Meta(description="A file that holds it, as a mounted secret"),
    ] = None


class StorageZone(_Spec, frozen=True):
    """A region of a sharded MongoDB."""

    region: Annotated[DnsLabel, Meta(description="Channels whose ids begin with it")]
    shards: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=256)]],
        Meta(max_length=1000, description="The shards that keep them; none: any, but split beforehand"),
    ] = []


class Storage(_Spec, frozen=True):
    """Where everything lives that may never be lost."""

    url: Annotated[
        str | None,
        Meta(
            description="Database URL, better without a password; absent: SQLite in the data directory (laptop only)"
        ),
    ] = None
    url_from: Annotated[UrlFrom | None, Meta(description="Where the URL is read, instead of `url`")] = None
    zones: Annotated[
        list[StorageZone], Meta(max_length=100, description="Where a sharded MongoDB keeps which region")
    ] = []


class Spec(_Spec, frozen=True):
    """What the cluster is to be."""

    version: Annotated[
        str, Meta(max_length=64, description="The release that pods run; empty is the operator's own")
    ] = ""
    region: Annotated[DnsLabel, Meta(description="Where it runs; part of channel ids, never changed")] = (
        "local"
    )
    chat_pods: ChatPods = ChatPods()
    api_pods: ApiPods = ApiPods()
    worker: Worker = Worker()
    drain: Drain = Drain()
    rebalance: Rebalance = Rebalance()
    rollout: Rollout = Rollout()
    presence: Presence = Presence()
    receipts: Receipts = Receipts()
    limits: LimitsSpec = LimitsSpec()
    auth: Auth = Auth()
    redis: Redis = Redis()
    storage: Storage = Storage()
    retention: Retention = Retention()
    pause: Annotated[bool, Meta(description="The operator only watches and changes nothing")] = False


class Metadata(_Spec, frozen=True):
    """The part of Kubernetes' object metadata that a person writes."""

    name: Annotated[DnsLabel, Meta(description="The cluster's name")]
    namespace: Annotated[str, Meta(max_length=63, description="Used on Kubernetes only")] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ChatCluster(_Spec, frozen=True):
    """One chat cluster."""

    api_version: Annotated[Literal["chatcluster.dev/v1alpha1"], Meta(description="Always this")]
    kind: Annotated[Literal["ChatCluster"], Meta(description="Always this")]
    metadata: Metadata
    spec: Spec = Spec()


def broken_rules(cluster: ChatCluster) -> list[tuple[str, str]]:
    """What no single field's bounds can say: (path, sentence) for each rule that is broken."""
    spec, found = cluster.spec, []
    if spec.presence.offline_seconds < 2 * spec.presence.heartbeat_seconds:
        found.append(
            (
                "spec.presence.offlineSeconds",
                f"must be at least twice heartbeatSeconds ({spec.presence.heartbeat_seconds:g}), "
                "or one late beat makes people flap",
            )
        )
    if not spec.auth.own_accounts and not spec.auth.issuers:
        found.append(("spec.auth.ownAccounts", "nobody could log in: allow own accounts or name an issuer"))
    if spec.limits.text_max_bytes > spec.limits.frame_max_bytes:
        found.append(
            ("spec.limits.textMaxBytes", f"must fit in frameMaxBytes ({spec.limits.frame_max_bytes})")
        )
    if spec.redis.url is not None:
        try:
            parse_redis_url(spec.redis.url)
        except RedisUrlError as error:
            found.append(("spec.redis.url", str(error)))
    found += _broken_storage(spec.storage)
    names = [variable.name for variable in spec.chat_pods.env]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.append(("spec.chatPods.env", f"names {name} twice"))
    return found


def _broken_storage(storage: Storage) -> list[tuple[str, str]]:
    found = []
    source = storage.url_from
    if source is not None:
        if (source.env is None) == (source.file is None):
            found.append(("spec.storage.urlFrom", "needs one of env and file"))
        if storage.url is not None:
            found.append(("spec.storage.urlFrom", "is instead of url: leave one of them out"))
    if storage.zones and storage.url is not None and not storage.url.startswith("mongodb"):
        found.append(("spec.storage.zones", "are for a sharded MongoDB"))
    regions = [zone.region for zone in storage.zones]
    found += [
        ("spec.storage.zones", f"names {region} twice")
        for region in sorted({region for region in regions if regions.count(region) > 1})
    ]
    return found
