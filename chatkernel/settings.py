"""One typed settings object per service, read from the JSON file that the operator writes for each pod.

Secrets come in files of their own (`SecretFile`, the URLs of Redis and the store), so that this file may be shown and
logged. What may change while a service runs is in one more (`LiveSettings`, see `live.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from chatkernel.protocol import Limits
from chatkernel.redis_url import RedisUrlError, parse_redis_url
from chatkernel.trust import TrustError, trusting_redis, trusting_store

CONFIG_ENV = "CHAT_CONFIG"
"""The environment variable that names the settings file."""

POD_ENV = "CHAT_POD"
"""The environment variable that names the pod, where one settings file is for many."""

POD_IP_ENV = "CHAT_POD_IP"
"""The environment variable that holds the pod's own address, where it has one."""

SOCKET_PATH = "/v1/socket"
"""Where a chat pod takes WebSockets."""

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "::"
"""Every address of the machine, of IPv4 as well."""

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


class RateSettings(Struct, frozen=True):
    """How often people may come."""

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


class LiveSettings(Struct, frozen=True):
    """What may change while a service runs: it makes no new pods. A value that is absent is its default, and what
    this version does not know is ignored: pods of several versions read the same file."""

    limits: Limits = Limits()
    drain: DrainSettings = DrainSettings()
    rates: RateSettings = RateSettings()

    def __post_init__(self) -> None:
        """All of these count something, or divide by it. Raises ValueError."""
        for part in ("limits", "drain", "rates"):
            for name, value in msgspec.structs.asdict(getattr(self, part)).items():
                if not value > 0:
                    raise ValueError(f"{part}.{name} must be more than 0")


class ServiceSettings(Struct, frozen=True):
    """What every service is told. Unused fields of a service do no harm."""

    cluster: str
    revision: str
    secret_file: str
    pod: str = ""
    """Its name; the environment's CHAT_POD wins."""
    redis_url: str = ""
    store_url: str = ""
    redis_url_file: str = ""
    store_url_file: str = ""
    """Files that hold the URLs, as mounted Secrets: they win over the URLs above."""
    redis_ca_file: str = ""
    store_ca_file: str = ""
    """Who is trusted to have signed the servers' certificates (PEM). The URL must be one by TLS."""
    redis_insecure: bool = False
    store_insecure: bool = False
    """By TLS to whoever answers."""
    directory_url: str = ""
    directory_url_file: str = ""
    directory_ca_file: str = ""
    directory_insecure: bool = False
    """The same of a second store, where the directory of people is apart from the messages; empty: it is not. When
    the settings are loaded it stands in `store_url`, behind the first."""
    region: str = "local"
    host: str = LOOPBACK
    """What it listens on, `{ip}` is the pod's own address. In a pod (CHAT_POD_IP) the loopback address means every
    one: who asks for its health comes from elsewhere."""
    port: int = 8080
    public_url: str = ""
    """Where clients reach this pod (ws://… for a chat pod); `{pod}` and `{ip}` are its name and address."""
    address: str = ""
    """Where the cluster's own services reach this pod's socket, if that is another way; given by CHAT_POD_IP."""
    api_url: str = ""
    """Where the prober reaches the API; empty: at `public_url`."""
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
    presence: PresenceSettings = PresenceSettings()
    auth: AuthSettings = AuthSettings()
    live: LiveSettings = LiveSettings()
    """As it begins, where there is no `live_file`."""
    live_file: str = ""
    """A file with `LiveSettings`, read again whenever it changes; empty: nothing changes."""


T = TypeVar("T")


class SettingsError(Exception):
    """The settings cannot be used; the message names the file and the field."""


def read_json(path: Path, kind: type[T]) -> T:
    """Raises SettingsError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from error


def load_settings(environ: Mapping[str, str] | None = None) -> ServiceSettings:
    """The settings of the file that CHAT_CONFIG names, complete: its placeholders filled, and the URLs from their
    files. Raises SettingsError."""
    variables = os.environ if environ is None else environ
    name = variables.get(CONFIG_ENV)
    if not name:
        raise SettingsError(f"{CONFIG_ENV} is not set: it names this service's settings file")
    settings = read_json(Path(name), ServiceSettings)
    pod, ip = variables.get(POD_ENV) or settings.pod, variables.get(POD_IP_ENV, "")
    if not pod:
        raise SettingsError(f"{name}: pod is empty, and {POD_ENV} is not set")
    host_of_url = f"[{ip}]" if ":" in ip else ip
    return msgspec.structs.replace(
        settings,
        pod=pod,
        host=ANY_ADDRESS if ip and settings.host == LOOPBACK else settings.host.replace("{ip}", ip),
        public_url=settings.public_url.replace("{pod}", pod).replace("{ip}", host_of_url),
        address=f"ws://{host_of_url}:{settings.port}{SOCKET_PATH}" if ip else settings.address,
        redis_url=_redis_url(settings),
        store_url=_store_url(settings),
        live=read_json(Path(settings.live_file), LiveSettings) if settings.live_file else settings.live,
    )


def load_secrets(settings: ServiceSettings) -> SecretFile:
    """Raises SettingsError."""
    return read_json(Path(settings.secret_file), SecretFile)


URL_MAX_BYTES = 64 * 1024


def read_url(file: str) -> str:
    """A URL that stands alone in a file. Raises SettingsError, which does not quote it."""
    try:
        with Path(file).open("rb") as opened:
            url = opened.read(URL_MAX_BYTES).decode().strip()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: not text") from error
    if not url:
        raise SettingsError(f"{file}: empty, and it should hold a URL")
    return url


def _redis_url(settings: ServiceSettings) -> str:
    url = _url("redis_url", settings.redis_url, settings.redis_url_file)
    try:
        parse_redis_url(url)
        return trusting_redis(url, settings.redis_ca_file, insecure=settings.redis_insecure)
    except RedisUrlError as error:
        raise SettingsError(f"{settings.redis_url_file or 'redis_url'}: {error}") from error
    except TrustError as error:
        raise SettingsError(f"redis_ca_file: {error}") from error


def _store_url(settings: ServiceSettings) -> str:
    url = _url("store_url", settings.store_url, settings.store_url_file)
    try:
        url = trusting_store(url, settings.store_ca_file, insecure=settings.store_insecure)
    except TrustError as error:
        raise SettingsError(f"store_ca_file: {error}") from error
    if not (settings.directory_url or settings.directory_url_file):
        return url
    apart = _url("directory_url", settings.directory_url, settings.directory_url_file)
    try:
        return (
            f"{url} {trusting_store(apart, settings.directory_ca_file, insecure=settings.directory_insecure)}"
        )
    except TrustError as error:
        raise SettingsError(f"directory_ca_file: {error}") from error


def _url(field: str, given: str, file: str) -> str:
    if file:
        return read_url(file)
    if not given:
        raise SettingsError(f"{field} is empty: it, or {field}_file, says where that is")
    return given
