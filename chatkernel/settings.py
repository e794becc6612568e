"""One typed settings object per service, read from the JSON file that the operator writes for each pod.

Secrets come in files of their own (`SecretFile`), so that this file may be shown and logged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from chatkernel.protocol import Limits

CONFIG_ENV = "CHAT_CONFIG"
"""The environment variable that names the settings file."""

PositiveSeconds = Annotated[float, Meta(gt=0, le=86_400)]


class SigningKey(Struct, frozen=True):
    """A shared secret by its id. `secret` is at least 32 characters."""

    kid: str
    secret: Annotated[str, Meta(min_length=32)]


class SecretFile(Struct, frozen=True):
    """`signing_keys`: the first signs access tokens and tickets; the others still verify (rotation)."""

    signing_keys: Annotated[list[SigningKey], Meta(min_length=1)]


class Issuer(Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer of the user's own whose tokens are accepted: RS256, ES256 or EdDSA by its JWKS."""

    issuer: str
    jwks_url: str
    audience: str
    username_claim: str = "preferred_username"
    jwks_cache_s: PositiveSeconds = 300.0


class PresenceSettings(Struct, frozen=True):
    heartbeat_interval_s: PositiveSeconds = 10.0
    offline_after_s: PositiveSeconds = 30.0
    small_group_max: int = 50
    """In groups of more members presence is read on entry and on request."""


class AuthSettings(Struct, frozen=True):
    access_token_ttl_s: PositiveSeconds = 600.0
    refresh_token_ttl_s: Annotated[float, Meta(gt=0)] = 60 * 86_400.0
    ticket_ttl_s: PositiveSeconds = 30.0
    own_accounts: bool = True
    issuers: list[Issuer] = []
    allowed_origins: list[str] = []
    """Web origins that may connect; `*` allows any. Requests without an Origin are not browsers': allowed."""
    login_attempts: int = 10
    """Wrong passwords per account and per address before each further try is slowed, per `login_window_s`."""
    login_window_s: PositiveSeconds = 60.0
    requests_per_s: float = 100.0
    requests_burst: int = 500
    """HTTP requests per device (per address without a token)."""
    user_requests_per_s: float = 400.0
    user_requests_burst: int = 2_000
    """HTTP requests per user, whatever the number of devices."""
    signups_per_address: int = 100_000
    """Sign-ups per address and hour."""


class DrainSettings(Struct, frozen=True):
    deadline_s: PositiveSeconds = 20.0
    """After this the rest is closed with a resumable code."""
    rate_per_s: PositiveSeconds = 100.0
    """Clients told to move per second."""


class ServiceSettings(Struct, frozen=True):
    """What every service is told. Unused fields of a service do no harm."""

    cluster: str
    pod: str
    revision: str
    redis_url: str
    store_url: str
    secret_file: str
    region: str = "local"
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    """Where clients reach this pod (ws://… for a chat pod)."""
    key_prefix: str = "chat"
    capacity: Annotated[int, Meta(ge=1)] = 10_000
    """Connections that discovery gives this pod at most."""
    lease_s: PositiveSeconds = 5.0
    """A pod that has not renewed its registry lease for this long is dead to discovery."""
    lease_renew_s: PositiveSeconds = 1.0
    hello_timeout_s: PositiveSeconds = 10.0
    receipt_interval_s: PositiveSeconds = 0.5
    """Watermarks that move within this are one frame."""
    receipt_members_max: int = 50
    """In larger groups receipts go to the reader's own devices only; the others ask."""
    retention_s: Annotated[int, Meta(ge=0)] = 0
    """What is older is removed; 0: everything is kept."""
    log_level: str = "INFO"
    limits: Limits = Limits()
    presence: PresenceSettings = PresenceSettings()
    auth: AuthSettings = AuthSettings()
    drain: DrainSettings = DrainSettings()


T = TypeVar("T")


class SettingsError(Exception):
    """The settings cannot be used; the message names the file and the field."""


def read_json(path: Path, kind: type[T]) -> T:
    """Raises SettingsError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}") from error


def load_settings(environ: dict[str, str] | None = None) -> ServiceSettings:
    """The settings of the file that CHAT_CONFIG names. Raises SettingsError."""
    name = (os.environ if environ is None else environ).get(CONFIG_ENV)
    if not name:
        raise SettingsError(f"{CONFIG_ENV} is not set: it names this service's settings file")
    return read_json(Path(name), ServiceSettings)


def load_secrets(settings: ServiceSettings) -> SecretFile:
    """Raises SettingsError."""
    return read_json(Path(settings.secret_file), SecretFile)
