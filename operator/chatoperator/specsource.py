"""Where the laptop's resource comes from: a file that may change while the cluster runs, and orders by hand."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from chatkernel.redis_url import parse_redis_url
from chatoperator.spec import API_VERSION, KIND, ChatCluster, Metadata
from chatoperator.specfile import SpecError, load_cluster
from chatoperator.storesource import redis_url as redis_of
from chatoperator.storesource import store_url as store_of
from chatoperator.storesource import with_store

log = logging.getLogger(__name__)

DEFAULTS = ChatCluster(api_version=API_VERSION, kind=KIND, metadata=Metadata(name="laptop"))

FIXED = ("metadata.name", "spec.region", "spec.apiPods.port", "spec.redis", "spec.mongodb", "spec.postgresql")
"""What a running laptop cluster cannot change: the file's other changes are carried out."""


class Fixed(Struct, frozen=True):
    """What is decided at start: from the file, or over it by the command line."""

    port: int
    redis_url: str | None
    store_url: str | None


class SpecSource:
    """`current` is the last good resource, with what was ordered by hand."""

    def __init__(
        self,
        path: Path | None,
        *,
        port: int | None = None,
        redis_url: str | None = None,
        store_url: str | None = None,
    ) -> None:
        """Without a path, the defaults. Raises SpecError, UrlFromError, and RedisUrlError for a URL that is not in
        the file."""
        self._path = path
        self._seen = self._stamp()
        first = DEFAULTS if path is None else load_cluster(path)
        self.fixed = Fixed(
            first.spec.api_pods.port if port is None else port,
            redis_of(first.spec) if redis_url is None else redis_url,
            store_of(first.spec) if store_url is None else store_url,
        )
        if self.fixed.redis_url is not None:
            parse_redis_url(self.fixed.redis_url)
        replace = msgspec.structs.replace
        stores = first.spec if store_url is None else with_store(first.spec, store_url)
        if redis_url is not None:
            stores = replace(stores, redis=replace(stores.redis, url=redis_url, url_from=None))
        self._stores = stores
        self._first = self._file = first
        self._replicas: int | None = None
        self.problem = ""
        self.current = self._combined()

    def poll(self) -> bool:
        """Whether the resource has changed since the last call. A bad file is reported and changes nothing."""
        stamp = self._stamp()
        if self._path is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            changed = load_cluster(self._path)
        except SpecError as error:
            self.problem = str(error)
            log.error("file refused, the last good one stays", extra={"problem": self.problem})  # noqa: TRY400
            return False
        self.problem = ""
        for field in FIXED:
            if _at(changed, field) != _at(self._first, field):
                log.warning("takes effect at the next start", extra={"field": field})
        self._file, self._replicas = changed, None
        before, self.current = self.current, self._combined()
        if before != self.current:
            log.info("file changed", extra={"file": str(self._path)})
        return before != self.current

    def scale(self, replicas: int) -> None:
        """Overrides the file until the file changes."""
        self._replicas = replicas
        self.current = self._combined()

    def _combined(self) -> ChatCluster:
        replace = msgspec.structs.replace
        spec = self._file.spec
        chat_pods = spec.chat_pods
        if self._replicas is not None:
            chat_pods = replace(chat_pods, replicas=self._replicas)
        spec = replace(
            spec,
            chat_pods=chat_pods,
            api_pods=replace(spec.api_pods, port=self.fixed.port),
            region=self._stores.region,
            redis=self._stores.redis,
            mongodb=self._stores.mongodb,
            postgresql=self._stores.postgresql,
        )
        return replace(self._file, metadata=self._first.metadata, spec=spec)

    def _stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - twice a second
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _at(cluster: ChatCluster, field: str) -> object:
    value: object = cluster
    for part in field.split("."):
        snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in part)
        value = getattr(value, snake)
    return value
