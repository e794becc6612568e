"""The operator: the cache, the tasks of all clusters, events, and what it tells of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from chatkernel.listening import listen
from chatkernel.metrics import Labels
from chatoperator.kube.cache import Cache
from chatoperator.kube.client import KubeClient
from chatoperator.kube.cluster import ClusterTask
from chatoperator.kube.events import Events
from chatoperator.kube.health import make_app, make_server
from chatoperator.kube.leader import Leader
from chatoperator.kube.metrics import Counts, Family, family, operator_families
from chatoperator.kube.resources import hear
from chatoperator.kube.shared import Shared
from chatoperator.kube.supervisor import Supervisor
from chatoperator.manifests.inputs import DevelopmentImages

HEARD_S = 15.0
"""A standby that has not heard of the Lease for this long is not ready: it could not take over."""


class Operator:
    def __init__(
        self,
        client: KubeClient,
        leader: Leader,
        *,
        image: str,
        namespaces: Sequence[str],
        operator_namespace: str,
        development: DevelopmentImages,
        trust: Path,
    ) -> None:
        self._client, self._leader, self._namespaces = client, leader, namespaces
        self._cache = Cache(client, namespaces)
        self._counts = Counts()
        self._events = Events(client, leader.identity)
        self._shared = Shared(
            client=client,
            cache=self._cache,
            events=self._events,
            counts=self._counts,
            image=image,
            operator_namespace=operator_namespace,
            development=development,
            trust=trust,
            may_act=leader.is_leading,
        )
        self._tasks: dict[tuple[str, str], ClusterTask] = {}
        self._supervisor = Supervisor(self._cache, self._tend)

    async def run(self) -> None:
        """What only the leader does. Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cache.run(), name="cache")
            group.create_task(hear(self._cache.resources), name="resources")
            group.create_task(self._events.run(), name="events")
            group.create_task(self._supervisor.run(), name="supervisor")

    async def serve_http(self, host: str, port: int) -> None:
        """Raises OSError when the port is taken."""
        server = make_server(make_app(self.is_ready, self.families))
        await server.serve(sockets=[listen(host, port)])

    def is_ready(self) -> bool:
        """It tends clusters, or could do so at once. A namespace that is lost makes no difference while there are
        others: of that the condition of its clusters and the metrics tell."""
        if self._leader.is_leading():
            return any(map(self._cache.is_current, self._namespaces or [""]))
        return time.monotonic() - self._leader.heard_at < HEARD_S

    def families(self) -> list[Family]:
        return [
            *operator_families(
                self._counts,
                self._client.requests,
                leading=self._leader.is_leading(),
                stale_watches=self._cache.stale(),
            ),
            *self._cluster_families(),
        ]

    def _tend(self, key: tuple[str, str], uid: str) -> ClusterTask:
        return ClusterTask(self._shared, key, uid)

    def _cluster_families(self) -> list[Family]:
        pods: dict[Labels, float] = {}
        connections: dict[Labels, float] = {}
        delivery: dict[Labels, float] = {}
        gaps: dict[Labels, float] = {}
        for (namespace, name), tended in self._supervisor.clusters.items():
            facts = tended.facts
            if facts is None:
                continue
            labels = (("namespace", namespace), ("cluster", name))
            views = facts.observed.pods
            pods[(*labels, ("state", "desired"))] = float(facts.observed.desired or 0)
            pods[(*labels, ("state", "ready"))] = float(sum(pod.ready for pod in views))
            pods[(*labels, ("state", "draining"))] = float(sum(pod.draining for pod in views))
            known = [pod.connections for pod in views if pod.connections is not None]
            connections[labels] = float(sum(known))
            measured = facts.observed.delivery
            if measured is not None and measured.p99_ms is not None:
                delivery[labels], gaps[labels] = measured.p99_ms, float(measured.gaps)
        return [
            family("chat_pods", "gauge", "Chat pods of a cluster", pods),
            family("connections", "gauge", "Connections to a cluster, as far as its pods tell", connections),
            family(
                "delivery_p99_ms", "gauge", "99 of 100 messages of the probe arrive within this", delivery
            ),
            family("delivery_gaps", "gauge", "Messages of the probe that did not arrive in time", gaps),
        ]
