"""What the tasks of all clusters have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from chatoperator.kube.cache import Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.events import Events
from chatoperator.kube.metrics import Counts
from chatoperator.manifests.inputs import DevelopmentImages


class Shared(Struct, frozen=True, kw_only=True):
    """`image`: the operator's own. `trust`: a directory for those of clusters' certificates. `may_act`: whether this
    process leads."""

    client: KubeClient
    cache: Cache
    events: Events
    counts: Counts
    image: str
    operator_namespace: str
    development: DevelopmentImages
    trust: Path
    may_act: Callable[[], bool]
