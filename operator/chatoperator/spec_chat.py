"""What the chat itself is to be like: presence, receipts, limits, who may come in, how long things are kept."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from chatkernel.protocol import (
    PASSWORD_MAX_CHARS,
    PROFILE_FIELD_MAX_CHARS,
    USERNAME_MAX_CHARS,
    WATCHES_MAX,
)
from chatoperator.spec_part import Bytes, Count, Duration, Rate, Seconds, SpecPart, Url


class Presence(SpecPart, frozen=True):
    """Who is online, and who is told."""

    heartbeat_seconds: Annotated[float, Meta(ge=0.1, le=3600, description="How often a device beats")] = 10.0
    offline_seconds: Annotated[
        float, Meta(ge=0.2, le=86_400, description="Silence after which a device is offline")
    ] = 30.0
    small_group_max: Annotated[
        int, Meta(ge=2, le=500, description="In groups of more members presence is read, not pushed")
    ] = 50


class Receipts(SpecPart, frozen=True):
    """What people are told of who has read and got what."""

    interval_seconds: Annotated[
        float, Meta(gt=0, le=60, description="Receipts of one person within this are one frame")
    ] = 0.5
    members_max: Annotated[
        int, Meta(ge=1, le=100_000, description="In groups of more members receipts are read, not pushed")
    ] = 50


class LimitsSpec(SpecPart, frozen=True):
    """The limits that clients are held to, and told in `welcome`. A change makes no new pods."""

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


class Retention(SpecPart, frozen=True):
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


class IssuerSpec(SpecPart, frozen=True):
    """An issuer of the user's own whose access tokens are accepted (RS256, ES256, EdDSA)."""

    issuer: Annotated[Url, Meta(description="The `iss` of its tokens")]
    jwks_url: Annotated[Url, Meta(description="Where its public keys are")]
    audience: Annotated[str, Meta(min_length=1, max_length=256, description="The `aud` of its tokens")]
    username_claim: Annotated[
        str, Meta(min_length=1, max_length=64, description="The claim that holds the user name")
    ] = "preferred_username"
    jwks_cache_seconds: Annotated[Seconds, Meta(description="How long its keys are remembered")] = 300.0


class Auth(SpecPart, frozen=True):
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
