"""Writes the status of a resource: when it has become another one, and not for every number that moves."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from chatoperator.kube.cache import Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.kinds import CHAT_CLUSTER, Object, name_of, namespace_of
from chatoperator.resource_status import Status

COUNTS_S = 10.0
"""How old the number of connections in the status may be."""
MEASURED_S = 300.0
"""How old the latencies in it may be: they are never the same twice."""


class StatusWriter:
    """Of one cluster."""

    def __init__(self, client: KubeClient, cache: Cache, *, now: Callable[[], float] = time.time) -> None:
        self._client, self._cache, self._now = client, cache, now
        self._written_at = 0.0

    def read(self, resource: Object) -> Status:
        """As it was last written; empty when it is not there, or of another version of the operator."""
        try:
            return msgspec.convert(resource.get("status") or {}, Status)
        except msgspec.ValidationError:
            return Status()

    async def write(self, resource: Object, wanted: Status) -> None:
        """Raises KubeError."""
        present = self.read(resource)
        age_s = self._now() - self._written_at
        if wanted == present or (
            age_s < MEASURED_S and _without_measures(wanted) == _without_measures(present)
        ):
            return
        if age_s < COUNTS_S and _without_counts(wanted) == _without_counts(present):
            return
        namespace, name = namespace_of(resource), name_of(resource)
        # The whole of it at once: null takes away what is not there any more.
        body = dict.fromkeys(resource.get("status") or {}) | msgspec.to_builtins(wanted)
        changed = await self._client.patch(CHAT_CLUSTER, namespace, name, {"status": body}, "status")
        self._cache[CHAT_CLUSTER].put(changed)
        self._written_at = self._now()


def _without_measures(status: Status) -> Status:
    return msgspec.structs.replace(status, delivery=None)


def _without_counts(status: Status) -> Status:
    pods = msgspec.structs.replace(status.chat_pods, connections=None)
    return msgspec.structs.replace(_without_measures(status), chat_pods=pods)
