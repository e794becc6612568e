"""Writes the status of a resource: when it has become another one, and not for every number that moves."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from chatoperator.kube.cache import Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.kinds import CHAT_CLUSTER, Object, name_of, namespace_of
from chatoperator.resource_status import DeliveryStatus, Status

COUNTS_S = 10.0
"""How old what moves with the load may be: the number of connections, gaps, the numbers in messages."""
MEASURED_S = 300.0
"""How old latencies may be that have become others altogether. When they were measured is no news at all."""
MUCH = 2.0
LITTLE_MS = 50.0
"""A latency has become another one when it is this many times the other, and differs by this much: they are never the
same twice. Prometheus has each."""


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
        if not is_news(self.read(resource), wanted, self._now() - self._written_at):
            return
        namespace, name = namespace_of(resource), name_of(resource)
        # The whole of it at once: null takes away what is not there any more.
        body = dict.fromkeys(resource.get("status") or {}) | msgspec.to_builtins(wanted)
        # Not of another one that was made under its name just now: the API server compares the version.
        same = {"resourceVersion": resource["metadata"]["resourceVersion"]}
        whole: Object = {"metadata": same, "status": body}
        changed = await self._client.patch(CHAT_CLUSTER, namespace, name, whole, "status")
        self._cache[CHAT_CLUSTER].put(changed)
        self._written_at = self._now()


def is_news(present: Status, wanted: Status, age_s: float) -> bool:
    """Whether what is to be said has to be written over what was written that long ago."""
    if _turning(wanted) != _turning(present):
        return True
    if age_s >= COUNTS_S and _moving(wanted) != _moving(present):
        return True
    return age_s >= MEASURED_S and _are_others(_latencies(wanted.delivery), _latencies(present.delivery))


def _turning(status: Status) -> object:
    """What changes seldom, and is told at once; of latencies, whether there are any."""
    replace, delivery = msgspec.structs.replace, status.delivery
    calm = replace(
        status,
        conditions=[replace(condition, message="") for condition in status.conditions],
        chat_pods=replace(status.chat_pods, connections=None),
        delivery=None,
    )
    return calm, delivery is None, _latencies(delivery).keys()


def _moving(status: Status) -> object:
    """What moves with the load."""
    gaps = 0 if status.delivery is None else status.delivery.gaps
    return status.chat_pods.connections, gaps, [condition.message for condition in status.conditions]


def _latencies(delivery: DeliveryStatus | None) -> dict[str, float]:
    """Those that are known, in ms."""
    if delivery is None:
        return {}
    found = {"p50": delivery.p50_ms, "p99": delivery.p99_ms}
    return {name: value for name, value in found.items() if value is not None}


def _are_others(wanted: dict[str, float], present: dict[str, float]) -> bool:
    pairs = [sorted((value, present[name])) for name, value in wanted.items()]
    return any(more > less * MUCH and more - less > LITTLE_MS for less, more in pairs)
