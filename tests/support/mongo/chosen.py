"""Which server the tests of the MongoDB adapter run on: a line says it, and nothing is skipped in silence.

`MONGODB_URI` names a deployment of yours, of one node or sharded: tests use databases of their own in it, and drop
them. `MONGODB_URI=scripted` takes the scripted server, and without it mongo-java-server runs. Tests that play faults
take the scripted server in any case.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlsplit

from support.mongo import java_build

VARIABLE = "MONGODB_URI"
PORT = 27_017
_UNCLEAR = f"{VARIABLE} is not mongodb://[user:password@]hosts/[database][?options]"

_HOST = r"(?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d+)?"
_PARTS = re.compile(
    rf"(mongodb(?:\+srv)?://)([^@/?#]*@)?({_HOST}(?:,{_HOST})*)(?:/([^@?#]*))?(?:\?([^@#]*))?", re.ASCII
)
"""Strict, for what follows a password that was not escaped must not be taken for a host and shown."""


class MongoKind(StrEnum):
    """The three servers, and none."""

    URI = "uri"
    SCRIPTED = "scripted"
    JAVA = "java"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One of them, and the words for it."""

    kind: MongoKind
    words: str

    @property
    def line(self) -> str:
        """For the head of a test run."""
        return f"mongodb: {self.words}"


def chosen() -> Chosen:
    """By the environment, and by what is installed."""
    uri = os.environ.get(VARIABLE, "")
    if uri == MongoKind.SCRIPTED:
        return Chosen(MongoKind.SCRIPTED, "scripted")
    if uri:
        return Chosen(MongoKind.URI, f"{VARIABLE} {hosts(uri)}")
    name = f"mongo-java-server {java_build.version()}"
    missing = java_build.missing()
    if missing is not None:
        return Chosen(MongoKind.NONE, f"NOT TESTED: no {VARIABLE}, and for {name} {missing}")
    return Chosen(MongoKind.JAVA, name)


def hosts(uri: str) -> str:
    """Where it is, and nothing that is secret: of a URL that we do not understand, nothing at all."""
    found = _PARTS.fullmatch(uri)
    return "(of a host that it does not clearly say)" if found is None else found[3]


def with_database(uri: str, database: str) -> str:
    """The same deployment with another database in the path. Log-in stays where it was: in the old one."""
    found = _PARTS.fullmatch(uri)
    if found is None:
        raise ValueError(_UNCLEAR)
    scheme, user, host, old, options = found.groups()
    kept = [options] if options else []
    if user and old and "authSource=" not in (options or ""):
        kept.append(f"authSource={old}")
    query = "?" + "&".join(kept) if kept else ""
    return f"{scheme}{user or ''}{host}/{database}{query}"


def one_host(uri: str) -> tuple[str, int] | None:
    """Where a wire can be put in front of it: one host, whose messages can be read on the way. Else None."""
    found = _PARTS.fullmatch(uri)
    if found is None or found[1] != "mongodb://" or "," in found[3]:
        return None
    options = {name.lower(): value for name, value in parse_qsl(found[5] or "")}
    if {options.get("tls"), options.get("ssl")} & {"true"} or "compressors" in options:
        return None
    place = urlsplit(f"//{found[3]}")
    return (place.hostname, place.port or PORT) if place.hostname else None


def with_host(uri: str, host: str) -> str:
    """The same by another way, and by no other: the driver would go to where the server says that it is."""
    found = _PARTS.fullmatch(uri)
    if found is None:
        raise ValueError(_UNCLEAR)
    scheme, user, _, database, options = found.groups()
    direct = [
        pair
        for pair in (options or "").split("&")
        if pair and not pair.lower().startswith("directconnection=")
    ]
    return f"{scheme}{user or ''}{host}/{database or ''}?{'&'.join([*direct, 'directConnection=true'])}"
