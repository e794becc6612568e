"""Which store a resource means, and where its channels are to be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from chatkernel.storage.schema_step import Placement
from chatoperator.spec import Spec, Storage

URL_MAX_BYTES = 64 * 1024


class StoreUrlError(Exception):
    """The URL cannot be read where the resource says; the message names the place and never the URL."""


def store_url(storage: Storage, environ: Mapping[str, str] = os.environ) -> str | None:
    """None: none is named. Raises StoreUrlError."""
    source = storage.url_from
    if source is None:
        return storage.url
    if source.env is not None:
        found = environ.get(source.env, "")
        if not found:
            raise StoreUrlError(f"spec.storage.urlFrom.env: {source.env} is not set")
        return found
    path = Path(source.file or "")
    try:
        with path.open("rb") as file:
            text = file.read(URL_MAX_BYTES).decode().strip()
    except OSError as error:
        raise StoreUrlError(f"spec.storage.urlFrom.file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StoreUrlError(f"spec.storage.urlFrom.file: {path}: is not text") from error
    if not text:
        raise StoreUrlError(f"spec.storage.urlFrom.file: {path} is empty")
    return text


def placement(spec: Spec) -> Placement:
    """The cluster's own region is split, too, where no zone keeps it."""
    zones = {zone.region: tuple(zone.shards) for zone in spec.storage.zones}
    return Placement({spec.region: (), **zones})
