"""Resources that break a rule, and changes that may not be made: Python and the API server are held to the same ones.

`spec` is laid over one that is right. `field` is where the refusal points to, `text` a part of what it says.
"""

from __future__ import annotations

import copy
from typing import Any

from msgspec import Struct

SECRET = {"urlFrom": {"secret": {"name": "db", "key": "url"}}}
OTHER = {"urlFrom": {"secret": {"name": "other", "key": "url"}}}
RIGHT: dict[str, Any] = {"redis": {"development": True}, "mongodb": SECRET}
ABSENT = None
"""Laid over a field, takes it away."""


class Broken(Struct, frozen=True):
    spec: dict[str, Any]
    field: str
    text: str


class Change(Struct, frozen=True):
    """`field` is "" for a change that may be made."""

    before: dict[str, Any]
    after: dict[str, Any]
    field: str = ""
    text: str = ""


def spec_of(changes: dict[str, Any]) -> dict[str, Any]:
    """A whole spec: top-level fields are replaced."""
    made = {**copy.deepcopy(RIGHT), **changes}
    return {name: value for name, value in made.items() if value is not ABSENT}


def resource(spec: dict[str, Any], name: str = "talk", namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "chatcluster.dev/v1alpha1",
        "kind": "ChatCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


STORES = (("redis", "http://h"), ("mongodb", "postgresql://h/chat"), ("postgresql", "mongodb://h/chat"))


def _with(store: str, value: Any) -> dict[str, Any]:
    """This store, and no other database beside it."""
    return {store: value, **({"mongodb": ABSENT} if store == "postgresql" else {})}


BROKEN: tuple[Broken, ...] = (
    Broken({"redis": ABSENT}, "spec", "needs a Redis: name yours in redis"),
    Broken({"mongodb": ABSENT}, "spec", "needs a store: name mongodb, postgresql or both"),
    Broken({"drain": {"deadlineSeconds": 55}}, "spec.drain.deadlineSeconds", "must be more than 5 s shorter"),
    Broken(
        {"chatPods": {"terminationGracePeriodSeconds": 20}},
        "spec.drain.deadlineSeconds",
        "shorten the one or lengthen the other",
    ),
    Broken(
        {"chatPods": {"autoscaling": {"min": 5, "max": 4}}},
        "spec.chatPods.autoscaling.min",
        "must not be above max",
    ),
    Broken(
        {"chatPods": {"autoscaling": {"min": 11}}}, "spec.chatPods.autoscaling.min", "must not be above max"
    ),
    Broken(
        {"presence": {"offlineSeconds": 19.9}},
        "spec.presence.offlineSeconds",
        "at least twice heartbeatSeconds",
    ),
    Broken({"presence": {"heartbeatSeconds": 16}}, "spec.presence.offlineSeconds", "at least twice"),
    Broken(
        {"limits": {"frameMaxBytes": 1024}}, "spec.limits.textMaxBytes", "must not be above frameMaxBytes"
    ),
    Broken({"auth": {"ownAccounts": False}}, "spec.auth.ownAccounts", "nobody could log in"),
    Broken({"auth": {"ownAccounts": False, "issuers": []}}, "spec.auth.ownAccounts", "name an issuer"),
    Broken({"exposure": {"host": "chat.example.org"}}, "spec.exposure", "exactly one of ingress and gateway"),
    Broken(
        {"exposure": {"host": "chat.example.org", "ingress": {}, "gateway": {"name": "edge"}}},
        "spec.exposure",
        "exactly one of ingress and gateway",
    ),
    *(
        broken
        for store, wrong_url in STORES
        for broken in (
            Broken(_with(store, {}), f"spec.{store}", "needs exactly one of urlFrom, url and development"),
            Broken(_with(store, {"development": True, **SECRET}), f"spec.{store}", "needs exactly one of"),
            Broken(_with(store, {"url": wrong_url}), f"spec.{store}.url", "must start with"),
            Broken(
                _with(store, {"url": f"{store}://ann:hunter2@h/0"}), f"spec.{store}.url", "holds a password"
            ),
            Broken(
                _with(store, {"url": f"{store}://h/0?password=hunter2"}), f"spec.{store}.url", "into a Secret"
            ),
            Broken(_with(store, {"urlFrom": {}}), f"spec.{store}.urlFrom", "needs secret"),
            Broken(_with(store, {"urlFrom": {"env": "DB"}}), f"spec.{store}.urlFrom", "needs secret"),
            Broken(
                _with(store, {"urlFrom": {**SECRET["urlFrom"], "file": "/url"}}),
                f"spec.{store}.urlFrom",
                "and nothing else",
            ),
        )
    ),
)

NAMES_THAT_CANNOT_BE = ("9talk", "talk.example", "a" * 41)

GOOD: tuple[dict[str, Any], ...] = (
    {},
    {"redis": {"url": "rediss+sentinel://s1,s2/chat/0"}},
    {"redis": {"url": "redis+cluster://:@n1,n2"}, "mongodb": {"url": "mongodb+srv://ann@db/chat"}},
    {"mongodb": ABSENT, "postgresql": {"url": "postgres://ann@db:5432,db2:5432/chat?sslmode=verify-full"}},
    {"mongodb": SECRET, "postgresql": {"url": "postgresql://ann@db/people"}},
    {"drain": {"deadlineSeconds": 54.9}, "presence": {"heartbeatSeconds": 15}},
    {"chatPods": {"autoscaling": {"min": 4, "max": 4}, "pod": {"resources": {"requests": {"cpu": 1}}}}},
    {
        "auth": {
            "ownAccounts": False,
            "issuers": [{"issuer": "https://i", "jwksUrl": "https://i/keys", "audience": "chat"}],
        }
    },
    {"exposure": {"host": "chat.example.org", "tls": {}, "gateway": {"name": "edge"}}},
)

CHANGES: tuple[Change, ...] = (
    Change({}, {"region": "eu"}, "spec.region", "cannot change: make another ChatCluster"),
    Change({"region": "eu"}, {}, "spec.region", "part of the ids of channels"),
    Change(
        {},
        {"redis": {"development": True, "keyPrefix": "b"}},
        "spec.redis.keyPrefix",
        "would not hear each other",
    ),
    Change(
        {},
        {"mongodb": ABSENT, "postgresql": SECRET},
        "spec",
        "a store cannot be added, left out or exchanged",
    ),
    Change({}, {"postgresql": SECRET}, "spec", "nothing moves the data"),
    *(
        change
        for store, url in (("mongodb", "mongodb://db/chat"), ("postgresql", "postgresql://db/chat"))
        for change in (
            Change(
                _with(store, SECRET), _with(store, OTHER), f"spec.{store}.urlFrom.secret.name", "that Secret"
            ),
            Change(
                _with(store, SECRET),
                _with(store, {"url": url}),
                f"spec.{store}.urlFrom.secret.name",
                "names the store that has the history",
            ),
            Change(
                _with(store, {"development": True}),
                _with(store, SECRET),
                f"spec.{store}.development",
                "nothing moves the data",
            ),
            Change(
                _with(store, {"url": url}), _with(store, SECRET), f"spec.{store}.urlFrom", "same database"
            ),
            Change(
                _with(store, {"url": url}),
                _with(store, {"url": f"{url}2"}),
                f"spec.{store}.url",
                "make another ChatCluster",
            ),
            Change(
                _with(store, {"url": url}),
                _with(store, {"url": url.replace("/chat", "")}),
                f"spec.{store}.url",
                "the database's name not",
            ),
            Change(
                _with(store, {"url": url}),
                _with(store, {"url": url.replace("db/", "ann@one:1,two:2/") + "?tls=true&x=/y/z"}),
            ),
        )
    ),
    Change({}, {"redis": SECRET}),
    Change({}, {"mongodb": {"urlFrom": {"secret": {"name": "db", "key": "uri"}}}}),
    Change({}, {"chatPods": {"replicas": 5}, "limits": {"sendsPerS": 5}, "pause": True}),
)
