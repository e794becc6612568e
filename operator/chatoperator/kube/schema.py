"""The Job that makes a store's tables: made when there may be something to do, and again when it has failed."""

from __future__ import annotations

import time
from collections.abc import Callable

from chatoperator.facts import Finding
from chatoperator.kube.cache import Cache
from chatoperator.kube.children import create_once, is_going, remove
from chatoperator.kube.client import KubeClient
from chatoperator.kube.errors import KubeError
from chatoperator.kube.findings import problem_of_error, problems_of_pods
from chatoperator.kube.kinds import (
    DEPLOYMENT,
    JOB,
    POD,
    SECRET,
    Object,
    labels_of,
    name_of,
    namespace_of,
    owner_uids,
    uid_of,
    version_of,
)
from chatoperator.kube.podview import unix_s
from chatoperator.kube.refusals import Refusals
from chatoperator.kube.whose import is_of_before
from chatoperator.manifests import names, schema, sources
from chatoperator.manifests.inputs import Inputs
from chatoperator.reasons import Reason
from chatoperator.schemajob import DENIED, REFUSED
from chatoperator.spec import ChatCluster

AGAIN_FIRST_S = 10.0
AGAIN_MAX_S = 300.0
"""After a Job that has failed the next is made: its own four pods have taken more than a minute."""
NO_POD_S = 5.0
"""A Job whose pod may be made has one long before."""
MESSAGE_MAX_CHARS = 500


class SchemaStep:
    """Of one cluster. `is_done`: the store's tables are those that this version needs. `lacks_image`: no node can get
    what is to make them."""

    def __init__(
        self,
        client: KubeClient,
        cache: Cache,
        refusals: Refusals,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._cache, self._refusals, self._now = client, cache, refusals, now
        self._failures = 0
        self._failed_at = 0.0
        self._of: tuple[str, tuple[int, ...]] = ("", ())
        """What `_last` is about: the Job's name, and the versions of the Secrets that its pods read."""
        self._last: Finding | None = None
        """What was wrong last: still so while it is tried again."""
        self.is_done = self.lacks_image = False

    async def look(self, cluster: ChatCluster, inputs: Inputs) -> Finding:
        """Goes on, and says how far it is. Raises KubeError and SourceError."""
        wanted = schema.job(cluster, inputs)
        await self._remove_others(cluster, wanted)
        await self._begin_anew_if_mended(cluster, wanted)
        live = self._cache[JOB].get(cluster.metadata.namespace, name_of(wanted))
        if live is not None and is_of_before(live, cluster.metadata.name, inputs.owner_uid):
            self.is_done = self.lacks_image = False
            return Finding(
                Reason.SCHEMA_PENDING, f"{name_of(live)} is of a cluster that was deleted, and goes"
            )
        self.is_done = live is not None and bool((live.get("status") or {}).get("succeeded"))
        if live is not None and self.is_done and self._is_of_an_earlier_store(cluster, live):
            self.is_done = False
            if not is_going(live):
                await remove(self._client, self._cache, JOB, live)
            return Finding(Reason.SCHEMA_PENDING, "the development store was made again, and is empty")
        self.lacks_image = live is not None and self._lacks_image(cluster, live)
        if self.is_done:
            self._failures, self._last = 0, None
            is_development = any(store.development for store in sources.stores(cluster))
            return Finding(Reason.DEVELOPMENT_STORE if is_development else Reason.SCHEMA_READY)
        if live is None:
            return await self._begin(cluster, inputs, wanted)
        if _is_over(live):
            await self._again_later(live)
        self._last = self._problem(cluster, live) or await self._why_no_pod(cluster, live) or self._last
        return self._last or Finding(Reason.SCHEMA_PENDING)

    async def _begin(self, cluster: ChatCluster, inputs: Inputs, wanted: Object) -> Finding:
        for store in sources.stores(cluster):
            if store.development and not self._runs(cluster, inputs, store.component):
                # It would fail, and wait for longer than the store needs to start.
                return Finding(Reason.SCHEMA_PENDING, "the development store is starting")
        with self._refusals("make the schema Job", name_of(wanted)):
            await create_once(self._client, self._cache, wanted)
        return self._last or Finding(Reason.SCHEMA_PENDING)

    async def _begin_anew_if_mended(self, cluster: ChatCluster, wanted: Object) -> None:
        """A Secret that has changed may be what was wrong: nobody is to wait for the next try."""
        secrets = [store.secret.name for store in sources.stores(cluster) if store.secret is not None]
        seen = [self._cache[SECRET].get(cluster.metadata.namespace, name) for name in secrets]
        of = name_of(wanted), tuple(version_of(one) for one in seen if one is not None)
        if of == self._of:
            return
        failed, self._of, self._last = self._last is not None, of, None
        live = self._cache[JOB].get(cluster.metadata.namespace, name_of(wanted))
        if failed and live is not None and not is_going(live):
            self._failures, self._failed_at = 0, 0.0
            await remove(self._client, self._cache, JOB, live)

    async def _why_no_pod(self, cluster: ChatCluster, job: Object) -> Finding | None:
        """Why the Job has no pod: it does not say itself. Once one can be made it begins anew, as its own controller
        waits ever longer."""
        age_s = self._now() - unix_s(job["metadata"].get("creationTimestamp"), self._now())
        if age_s < NO_POD_S or _is_over(job) or is_going(job) or self._pods(cluster, job):
            return None
        try:
            with self._refusals("a pod of the schema Job", uid_of(job)):
                await self._client.create(_pod_of(job), dry_run=True)
        except KubeError as error:
            return problem_of_error(error)
        if self._last is not None:
            self._last = None
            await remove(self._client, self._cache, JOB, job)
        return None

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

    def _runs(self, cluster: ChatCluster, inputs: Inputs, component: str) -> bool:
        meta = cluster.metadata
        found = self._cache[DEPLOYMENT].get(meta.namespace, names.of(meta.name, component))
        if found is None or is_of_before(found, meta.name, inputs.owner_uid):
            return False
        return bool((found.get("status") or {}).get("readyReplicas"))

    def _is_of_an_earlier_store(self, cluster: ChatCluster, job: Object) -> bool:
        """A development store keeps its data in its pod: one that was made since has no tables."""
        now = self._now()
        done_at = unix_s(job["status"].get("completionTime"), now)
        components = {store.component for store in sources.stores(cluster) if store.development}
        pods = [
            pod
            for pod in self._cache[POD].of(namespace_of(job), cluster.metadata.name)
            if labels_of(pod).get(names.LABEL_COMPONENT) in components
        ]
        return any(unix_s(pod["metadata"].get("creationTimestamp"), now) > done_at for pod in pods)

    def _pods(self, cluster: ChatCluster, job: Object) -> list[Object]:
        found = self._cache[POD].of(namespace_of(job), cluster.metadata.name)
        return [pod for pod in found if uid_of(job) in owner_uids(pod)]

    def _lacks_image(self, cluster: ChatCluster, job: Object) -> bool:
        problems = problems_of_pods(self._pods(cluster, job))
        return any(problem.reason is Reason.IMAGE_UNAVAILABLE for problem in problems)

    def _problem(self, cluster: ChatCluster, job: Object) -> Finding | None:
        """What its newest pod that ended says."""
        pods = self._pods(cluster, job)
        ends = sorted(end for pod in pods if (end := _end_of(pod)) is not None)
        if not ends:
            return None
        _, code, said = ends[-1]
        if code == 0:
            return None
        detail = said.strip()[-MESSAGE_MAX_CHARS:] or f"{names.SCHEMA} ended with exit code {code}"
        if "newer" in detail:
            return Finding(Reason.SCHEMA_TOO_NEW, detail)
        refuses = Reason.STORE_REFUSES
        reasons = {REFUSED: refuses, DENIED: refuses, 1: Reason.STORE_UNREACHABLE}
        return Finding(reasons.get(code, Reason.SCHEMA_FAILED), detail)


def _pod_of(job: Object) -> Object:
    """As its controller would make it."""
    template = job["spec"]["template"]
    meta = {**template["metadata"], "name": f"{name_of(job)}-x", "namespace": namespace_of(job)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


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
