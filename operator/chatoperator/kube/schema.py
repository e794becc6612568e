"""The Job that makes a store's tables: made when there may be something to do, and again when it has failed."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatoperator.facts import Finding
from chatoperator.kube.cache import Cache
from chatoperator.kube.children import create_once, is_going, remove
from chatoperator.kube.client import KubeClient
from chatoperator.kube.kinds import (
    DEPLOYMENT,
    JOB,
    POD,
    Object,
    labels_of,
    name_of,
    namespace_of,
    owner_uids,
    uid_of,
)
from chatoperator.manifests import names, schema, sources
from chatoperator.manifests.inputs import Inputs
from chatoperator.reasons import Reason
from chatoperator.schemajob import REFUSED
from chatoperator.spec import ChatCluster

AGAIN_FIRST_S = 10.0
AGAIN_MAX_S = 300.0
"""After a Job that has failed the next is made: its own four pods have taken more than a minute."""
MESSAGE_MAX_CHARS = 500


class SchemaStep:
    """Of one cluster. `is_done`: the store's tables are those that this version needs."""

    def __init__(self, client: KubeClient, cache: Cache, *, now: Callable[[], float] = time.time) -> None:
        self._client, self._cache, self._now = client, cache, now
        self._failures = 0
        self._failed_at = 0.0
        self.is_done = False

    async def look(self, cluster: ChatCluster, inputs: Inputs) -> Finding:
        """Goes on, and says how far it is. Raises KubeError and SourceError."""
        wanted = schema.job(cluster, inputs)
        await self._remove_others(cluster, wanted)
        live = self._cache[JOB].get(cluster.metadata.namespace, name_of(wanted))
        self.is_done = live is not None and bool((live.get("status") or {}).get("succeeded"))
        if self.is_done:
            self._failures = 0
            is_development = any(store.development for store in sources.stores(cluster))
            return Finding(Reason.DEVELOPMENT_STORE if is_development else Reason.SCHEMA_READY)
        if live is None:
            return await self._begin(cluster, wanted)
        if _is_over(live):
            await self._again_later(live)
        return self._problem(cluster, live) or Finding(Reason.SCHEMA_PENDING)

    async def _begin(self, cluster: ChatCluster, wanted: Object) -> Finding:
        for store in sources.stores(cluster):
            if store.development and not self._runs(cluster, store.component):
                # It would fail, and wait for longer than the store needs to start.
                return Finding(Reason.SCHEMA_PENDING, "the development store is starting")
        await create_once(self._client, self._cache, wanted)
        return Finding(Reason.SCHEMA_PENDING)

    async def _again_later(self, live: Object) -> None:
        """Removed in time, so that the next look makes it anew."""
        if is_going(live):
            return
        if self._failed_at == 0.0:
            self._failed_at, self._failures = self._now(), self._failures + 1
        pause_s = min(AGAIN_MAX_S, AGAIN_FIRST_S * 2.0 ** min(self._failures - 1, 16))
        if self._now() - self._failed_at >= pause_s:
            self._failed_at = 0.0
            await remove(self._client, self._cache, JOB, live)

    async def _remove_others(self, cluster: ChatCluster, wanted: Object) -> None:
        """Those of other images and stores are done with."""
        owner = {owner["uid"] for owner in wanted["metadata"]["ownerReferences"]}
        for job in self._cache[JOB].of(cluster.metadata.namespace, cluster.metadata.name):
            is_schema = labels_of(job).get(names.LABEL_COMPONENT) == names.SCHEMA
            if (
                is_schema
                and name_of(job) != name_of(wanted)
                and owner & owner_uids(job)
                and not is_going(job)
            ):
                await remove(self._client, self._cache, JOB, job)

    def _runs(self, cluster: ChatCluster, component: str) -> bool:
        name = names.of(cluster.metadata.name, component)
        found = self._cache[DEPLOYMENT].get(cluster.metadata.namespace, name)
        return found is not None and bool((found.get("status") or {}).get("readyReplicas"))

    def _problem(self, cluster: ChatCluster, job: Object) -> Finding | None:
        """What its newest pod that ended says."""
        pods = [
            pod
            for pod in self._cache[POD].of(namespace_of(job), cluster.metadata.name)
            if uid_of(job) in owner_uids(pod)
        ]
        ends = sorted(end for pod in pods if (end := _end_of(pod)) is not None)
        if not ends:
            return None
        _, code, said = ends[-1]
        if code == 0:
            return None
        detail = said.strip()[-MESSAGE_MAX_CHARS:] or f"{names.SCHEMA} ended with exit code {code}"
        if "newer" in detail:
            return Finding(Reason.SCHEMA_TOO_NEW, detail)
        reasons = {REFUSED: Reason.STORE_REFUSES, 1: Reason.STORE_UNREACHABLE}
        return Finding(reasons.get(code, Reason.SCHEMA_FAILED), detail)


def _is_over(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(found["type"] == "Failed" and found["status"] == "True" for found in conditions)


def _end_of(pod: Object) -> tuple[str, int, str] | None:
    """When a pod's container ended, its exit code, and what it said last."""
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        for state in ("state", "lastState"):
            ended = (container.get(state) or {}).get("terminated")
            if ended:
                return (
                    str(ended.get("finishedAt")),
                    int(ended.get("exitCode", 1)),
                    str(ended.get("message") or ""),
                )
    return None
