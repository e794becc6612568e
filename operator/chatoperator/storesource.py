"""Which store a resource means, and where its channels are to be."""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec.structs import replace

from chatkernel.settings import SettingsError, read_url
from chatkernel.storage.schema_step import Placement
from chatkernel.storage.url import parts_of, scheme_of
from chatoperator.spec import MongoDb, PostgreSql, Spec, UrlFrom


class UrlFromError(Exception):
    """The URL cannot be read where the resource says; the message names the place and never the URL."""


def store_url(spec: Spec, environ: Mapping[str, str] = os.environ) -> str | None:
    """That of the messages, and with a space in between that of the directory where it is another. None: no store is
    named. Raises UrlFromError."""
    urls = []
    for named, store in (("mongodb", spec.mongodb), ("postgresql", spec.postgresql)):
        if store is not None:
            url = _url(f"spec.{named}", store.url, store.url_from, environ)
            if url is None:
                raise UrlFromError(f"spec.{named} names no server: give it url or urlFrom")
            urls.append(url)
    return " ".join(urls) or None


def redis_url(spec: Spec, environ: Mapping[str, str] = os.environ) -> str | None:
    """None: no Redis is named. Raises UrlFromError."""
    return _url("spec.redis", spec.redis.url, spec.redis.url_from, environ)


def with_store(spec: Spec, url: str) -> Spec:
    """The spec with the stores of this URL instead of its own. Zones stay, if it is another MongoDB."""
    mongodb = postgresql = None
    for part in parts_of(url):
        scheme = scheme_of(part)
        if scheme == "mongodb":
            mongodb = replace(spec.mongodb or MongoDb(), url=part, url_from=None)
        elif scheme == "postgresql":
            postgresql = PostgreSql(url=part)
    return replace(spec, mongodb=mongodb, postgresql=postgresql)


def _url(field: str, url: str | None, source: UrlFrom | None, environ: Mapping[str, str]) -> str | None:
    if source is None:
        return url
    if source.env is not None:
        found = environ.get(source.env, "")
        if not found:
            raise UrlFromError(f"{field}.urlFrom.env: {source.env} is not set")
        return found
    try:
        return read_url(source.file or "")
    except SettingsError as error:
        raise UrlFromError(f"{field}.urlFrom.file: {error}") from error


def placement(spec: Spec) -> Placement:
    """The cluster's own region is split, too, where no zone keeps it."""
    zones = {zone.region: tuple(zone.shards) for zone in (spec.mongodb.zones if spec.mongodb else [])}
    return Placement({spec.region: (), **zones})
