"""What no single field's bounds can say, in one table for Python and for the API server.

Each rule stands at an object of the resource and is said twice: `holds` for who reads a file, `cel` for the schema on
Kubernetes. Tests hold both to the same examples. `TRANSITIONS` are about a change, so only the API server checks
them; a running laptop cluster has its own list of what is fixed (`specsource.FIXED`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct

from chatkernel.redis_url import RedisUrlError, parse_redis_url
from chatkernel.storage.url import StoreUrlError, servers_of
from chatoperator.spec import Auth, Autoscaling, ChatCluster, Exposure, LimitsSpec, Presence, Spec, UrlFrom

GRACE_MARGIN_S = 5
"""Between the end of a drain and the kill: closing what is left, and ending."""

Holds = Callable[[Any], bool]


class Platform(StrEnum):
    LAPTOP = "laptop"
    KUBERNETES = "Kubernetes"


EVERYWHERE = frozenset(Platform)
LAPTOP = frozenset({Platform.LAPTOP})
KUBERNETES = frozenset({Platform.KUBERNETES})


class Rule(Struct, frozen=True):
    """`at` is the object that `holds` and `cel` see, `field` the part that the text is about ("" is all of it)."""

    at: str
    field: str
    text: str
    holds: Holds
    cel: str
    """"" where the schema itself says it, or where only Python can."""
    where: frozenset[Platform] = EVERYWHERE

    @property
    def path(self) -> str:
        return _path(self.at, self.field)


class Transition(Struct, frozen=True):
    """What a change must leave as it is; `cel` has `oldSelf`, too."""

    at: str
    field: str
    text: str
    cel: str

    @property
    def path(self) -> str:
        return _path(self.at, self.field)


def broken_rules(cluster: ChatCluster, where: Platform = Platform.LAPTOP) -> list[tuple[str, str]]:
    """(path, sentence) for each rule that is broken, in the order of the table."""
    found = []
    for rule in RULES:
        if where not in rule.where:
            continue
        value = at(cluster, rule.at)
        if value is not None and not rule.holds(value):
            found.append((rule.path, rule.text))
    return found + _broken_urls(cluster.spec)


def _path(at: str, field: str) -> str:
    return ".".join(part for part in (at, field) if part)


def at(cluster: ChatCluster, path: str) -> Any:
    """The value at a dotted path of names as they are outside; None if it, or what it is in, is absent."""
    value: Any = cluster
    for part in filter(None, path.split(".")):
        if value is None:
            return None
        kind: type[Struct] = type(value)
        value = getattr(value, _names(kind)[part])
    return value


@cache
def _names(kind: type[Struct]) -> dict[str, str]:
    """From names outside to those here. Looked up once: it is slow, and every resource is read again and again."""
    return {field.encode_name: field.name for field in msgspec.structs.fields(kind)}


def _broken_urls(spec: Spec) -> list[tuple[str, str]]:
    """What cannot be said in CEL. Of a URL that does not even begin as it should a rule tells."""
    found: list[tuple[str, str]] = []
    parsers: tuple[tuple[str, Any, str, Callable[[str], object]], ...] = (
        ("redis", spec.redis, REDIS_URL, parse_redis_url),
        ("mongodb", spec.mongodb, MONGODB_URL, servers_of),
        ("postgresql", spec.postgresql, POSTGRESQL_URL, servers_of),
    )
    for name, server, pattern, parse in parsers:
        if server is not None and server.url is not None and _matches(pattern)(server.url):
            try:
                parse(server.url)
            except (RedisUrlError, StoreUrlError) as error:
                found.append((f"spec.{name}.url", str(error)))
    return found


# -- expressions that several rules are made of

REDIS_URL = r"^(rediss?([+](sentinel|cluster))?://|unix:///)"
MONGODB_URL = r"^mongodb([+]srv)?://"
POSTGRESQL_URL = r"^postgres(ql)?://"
URL_THAT_TELLS = r"^[a-z+]+://[^/@]*:[^/]+@|[?&](sentinel_)?password="


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.search(pattern, text) is not None


def _unique(names: Iterable[str]) -> bool:
    listed = list(names)
    return len(listed) == len(set(listed))


def _sources(store: Any) -> int:
    """How many of the ways are given in which a store can be named."""
    return sum((store.url is not None, store.url_from is not None, store.development))


CEL_SOURCES = "[has(self.url), has(self.urlFrom), self.development].filter(given, given).size()"


def _store_rules(name: str, schemes: str, pattern: str) -> Sequence[Rule]:
    """Those of each of `redis`, `mongodb` and `postgresql`."""
    store = f"spec.{name}"
    return (
        Rule(
            store,
            "",
            "needs exactly one of urlFrom, url and development: true",
            lambda value: _sources(value) == 1,
            f"{CEL_SOURCES} == 1",
            KUBERNETES,
        ),
        Rule(
            store,
            "",
            "takes only one of urlFrom, url and development: true: leave the others out",
            lambda value: _sources(value) <= 1,
            "",
            LAPTOP,
        ),
        Rule(
            store,
            "url",
            f"must start with {schemes}",
            lambda value: value.url is None or _matches(pattern)(value.url),
            f"!has(self.url) || self.url.matches('{pattern}')",
        ),
        Rule(
            store,
            "url",
            "holds a password, and whoever may read this resource would read it: put the URL into a Secret and "
            "name that in urlFrom.secret",
            lambda value: value.url is None or not _matches(URL_THAT_TELLS)(value.url),
            f"!has(self.url) || !self.url.matches('{URL_THAT_TELLS}')",
            KUBERNETES,
        ),
        Rule(
            f"{store}.urlFrom",
            "",
            "needs secret, and nothing else: env and file are for the laptop",
            lambda source: source.secret is not None and source.env is None and source.file is None,
            "has(self.secret) && !has(self.env) && !has(self.file)",
            KUBERNETES,
        ),
        Rule(
            f"{store}.urlFrom",
            "",
            "needs one of env and file: secret is for Kubernetes",
            _from_here,
            "",
            LAPTOP,
        ),
    )


def _from_here(source: UrlFrom) -> bool:
    return (source.env is None) != (source.file is None) and source.secret is None


def _database_rules(name: str) -> Sequence[Rule]:
    return (
        Rule(
            f"spec.{name}",
            "development",
            f"the laptop runs none: leave {name} out for SQLite",
            lambda value: not value.development,
            "",
            LAPTOP,
        ),
    )


def _database_transitions(name: str) -> Sequence[Transition]:
    store = f"spec.{name}"
    return (
        Transition(
            store,
            "urlFrom.secret.name",
            "names the store that has the history, and cannot change: put the new URL into that Secret, or make "
            "another ChatCluster",
            "!has(oldSelf.urlFrom) || !has(oldSelf.urlFrom.secret) || (has(self.urlFrom) && "
            "has(self.urlFrom.secret) && self.urlFrom.secret.name == oldSelf.urlFrom.secret.name)",
        ),
        Transition(
            store,
            "development",
            "cannot change, since nothing moves the data: make another ChatCluster",
            "self.development == oldSelf.development",
        ),
        Transition(
            store,
            "url",
            "names the database that has the history: the server may change, once the data is there, and the "
            "database's name not. For another database make another ChatCluster",
            f"!has(oldSelf.url) || !has(self.url) || {_database('self')} == {_database('oldSelf')}",
        ),
        Transition(
            store,
            "urlFrom",
            "cannot take the place of url, since nobody sees whether a Secret names the same database: delete the "
            "ChatCluster (the store stays, and with deletionPolicy: Keep the keys) and make it again with urlFrom",
            "!has(oldSelf.url) || !has(self.urlFrom)",
        ),
    )


def _database(holder: str) -> str:
    """CEL for the name of the database in `url`, "" where it names none. Made of `find`, of whose results the API
    server knows how long they can be: of the parts of a `split` it does not, and refuses what may be dear."""
    return f"{holder}.url.find('^[a-z+]+://[^/?]*/[^?]*').find('[^/]*$')"


def _unique_names(path: str) -> Rule:
    """The API server knows from the list's type that `name` is its key."""
    return Rule(
        path,
        "env",
        "names a variable twice",
        lambda holder: _unique(variable.name for variable in holder.env),
        "",
    )


def _offline(presence: Presence) -> bool:
    return presence.offline_seconds >= 2 * presence.heartbeat_seconds


def _somebody_may_come(auth: Auth) -> bool:
    return auth.own_accounts or bool(auth.issuers)


def _text_fits(limits: LimitsSpec) -> bool:
    return limits.text_max_bytes <= limits.frame_max_bytes


def _drain_fits(spec: Spec) -> bool:
    return spec.drain.deadline_seconds + GRACE_MARGIN_S < spec.chat_pods.termination_grace_period_seconds


def _min_below_max(scaling: Autoscaling) -> bool:
    return scaling.min <= scaling.max


def _one_way_in(exposure: Exposure) -> bool:
    return (exposure.ingress is None) != (exposure.gateway is None)


RULES: tuple[Rule, ...] = (
    Rule(
        "",
        "metadata.name",
        "must begin with a letter, have at most 40 characters of a-z, 0-9 and -, and not end with -",
        lambda _: True,  # the type says it
        "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
    ),
    Rule(
        "spec",
        "",
        "needs a Redis: name yours in redis (for a try redis: {development: true})",
        lambda spec: _sources(spec.redis) > 0,
        "has(self.redis)",
        KUBERNETES,
    ),
    Rule(
        "spec",
        "",
        "needs a store: name mongodb, postgresql or both (for a try postgresql: {development: true})",
        lambda spec: spec.mongodb is not None or spec.postgresql is not None,
        "has(self.mongodb) || has(self.postgresql)",
        KUBERNETES,
    ),
    Rule(
        "spec",
        "drain.deadlineSeconds",
        f"must be more than {GRACE_MARGIN_S} s shorter than chatPods.terminationGracePeriodSeconds, or pods are "
        "killed while their clients still move: shorten the one or lengthen the other",
        _drain_fits,
        f"self.drain.deadlineSeconds + {GRACE_MARGIN_S}.0 < double(self.chatPods.terminationGracePeriodSeconds)",
        KUBERNETES,
    ),
    Rule(
        "spec.chatPods.autoscaling",
        "min",
        "must not be above max",
        _min_below_max,
        "self.min <= self.max",
    ),
    Rule(
        "spec.presence",
        "offlineSeconds",
        "must be at least twice heartbeatSeconds, or one late beat makes people flap",
        _offline,
        "self.offlineSeconds >= 2.0 * self.heartbeatSeconds",
    ),
    Rule(
        "spec.limits",
        "textMaxBytes",
        "must not be above frameMaxBytes: the text is in a frame",
        _text_fits,
        "self.textMaxBytes <= self.frameMaxBytes",
    ),
    Rule(
        "spec.auth",
        "ownAccounts",
        "nobody could log in: allow own accounts or name an issuer",
        _somebody_may_come,
        "self.ownAccounts || (has(self.issuers) && self.issuers.size() > 0)",
    ),
    Rule(
        "spec.exposure",
        "",
        "needs exactly one of ingress and gateway; {} takes the default IngressClass",
        _one_way_in,
        "has(self.ingress) != has(self.gateway)",
    ),
    *_store_rules(
        "redis",
        "redis://, rediss://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster:// or unix:///",
        REDIS_URL,
    ),
    *_store_rules("mongodb", "mongodb:// or mongodb+srv://", MONGODB_URL),
    *_store_rules("postgresql", "postgresql:// or postgres://", POSTGRESQL_URL),
    *_database_rules("mongodb"),
    *_database_rules("postgresql"),
    *map(_unique_names, ("spec.chatPods", "spec.chatPods.pod", "spec.apiPods.pod", "spec.worker.pod")),
    Rule(
        "spec.mongodb",
        "zones",
        "names a region twice",
        lambda store: _unique(zone.region for zone in store.zones),
        "",  # the list's type says it
    ),
)

TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        "spec",
        "region",
        "is part of the ids of channels and cannot change: make another ChatCluster",
        "self.region == oldSelf.region",
    ),
    Transition(
        "spec.redis",
        "keyPrefix",
        "cannot change: pods of the old and of the new prefix would not hear each other",
        "self.keyPrefix == oldSelf.keyPrefix",
    ),
    Transition(
        "spec",
        "",
        "a store cannot be added, left out or exchanged, since nothing moves the data: make another ChatCluster",
        "has(self.mongodb) == has(oldSelf.mongodb) && has(self.postgresql) == has(oldSelf.postgresql)",
    ),
    *_database_transitions("mongodb"),
    *_database_transitions("postgresql"),
)
