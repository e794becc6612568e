"""Which store a resource means, and where its channels are to be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from chatkernel.storage.schema_step import Placement
from chatkernel.storage.url import parts_of
from chatoperator.spec import MongoDb, PostgreSql, Spec, UrlFrom

URL_MAX_BYTES = 64 * 1024


class StoreUrlError(Exception):
    """The URL cannot be read where the resource says; the message names the place and never the URL."""


def store_url(spec: Spec, environ: Mapping[str, str] = os.environ) -> str | None:
    """That of the messages, and with a space in between that of the directory where it is another. None: no store is
    named. Raises StoreUrlError."""
    urls = []
    for named, store in (("mongodb", spec.mongodb), ("postgresql", spec.postgresql)):
        if store is not None:
            url = _url(f"spec.{named}", store.url, store.url_from, environ)
            if url is None:
                raise StoreUrlError(f"spec.{named} names no server: give it url or urlFrom")
            urls.append(url)
    return " ".join(urls) or None


def redis_url(spec: Spec, environ: Mapping[str, str] = os.environ) -> str | None:
    """None: no Redis is named. Raises StoreUrlError."""
    return _url("spec.redis", spec.redis.url, spec.redis.url_from, environ)


def with_store(spec: Spec, url: str) -> Spec:
    """The spec with the stores of this URL instead of its own. Zones stay, if it is another MongoDB."""
    mongodb = postgresql = None
    for part in parts_of(url):
        scheme = part.partition(":")[0].partition("+")[0]
        if scheme == "mongodb":
            mongodb = replace(spec.mongodb or MongoDb(), url=part, url_from=None)
        elif scheme in ("postgresql", "postgres"):
            postgresql = PostgreSql(url=part)
    return replace(spec, mongodb=mongodb, postgresql=postgresql)


def _url(field: str, url: str | None, source: UrlFrom | None, environ: Mapping[str, str]) -> str | None:
    if source is None:
        return url
    if source.env is not None:
        found = environ.get(source.env, "")
        if not found:
            raise StoreUrlError(f"{field}.urlFrom.env: {source.env} is not set")
        return found
    path = Path(source.file or "")
    try:
        with path.open("rb") as file:
            text = file.read(URL_MAX_BYTES).decode().strip()
    except OSError as error:
        raise StoreUrlError(f"{field}.urlFrom.file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreUrlError(f"{field}.urlFrom.file: {path}: is not text") from error
    if not text:
        raise StoreUrlError(f"{field}.urlFrom.file: {path} is empty")
    return text


def placement(spec: Spec) -> Placement:
    """The cluster's own region is split, too, where no zone keeps it."""
    zones = {zone.region: tuple(zone.shards) for zone in (spec.mongodb.zones if spec.mongodb else [])}
    return Placement({spec.region: (), **zones})
