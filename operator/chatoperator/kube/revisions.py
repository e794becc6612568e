"""Revisions of chat pods: each is kept whole, so that a pod of an older one can be started again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct

from chatoperator.kube.brake import Brake
from chatoperator.kube.cache import Cache
from chatoperator.kube.children import create_once, remove
from chatoperator.kube.client import KubeClient
from chatoperator.kube.kinds import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    POD,
    Kind,
    Object,
    annotations_of,
    labels_of,
    name_of,
    owner_uids,
)
from chatoperator.kube.podview import is_ready, rfc3339
from chatoperator.kube.whose import is_of_before
from chatoperator.manifests import chatpod, names
from chatoperator.manifests.inputs import Inputs
from chatoperator.manifests.names import CHAT, LABEL_COMPONENT, LABEL_REVISION
from chatoperator.model import PodKind
from chatoperator.place import PlaceError
from chatoperator.revision import revision_of
from chatoperator.spec import ChatCluster

LAST_GOOD = f"{names.GROUP}/last-good"
"""On the ConfigMap of the last good revision: since when. It outlives the operator. A ControllerRevision cannot bear
it: the API server compares its data byte by byte, and any patch writes them anew."""


class Recorded(Struct, frozen=True):
    """The image that a revision runs, and the `spec.version` that it was asked for with."""

    image: str
    release: str


class Revisions:
    """Of one cluster. `inputs` is set before anything is asked of it."""

    def __init__(self, client: KubeClient, cache: Cache, inputs: Inputs) -> None:
        self._client, self._cache, self.inputs = client, cache, inputs
        self._found: list[Recorded] | None = None
        """What served people when this cluster was first looked at."""
        self._brake = Brake()

    async def keep(self, cluster: ChatCluster) -> None:
        """That of the resource as it is now, with everything resolved. Raises KubeError and SourceError."""
        name = names.of_revision(cluster.metadata.name, revision_of(cluster.spec, PodKind.CHAT))
        kinds = (CONFIG_MAP, CONTROLLER_REVISION)
        if all(self._find(kind, cluster, name) for kind in kinds):
            return
        for manifest in chatpod.revision_objects(cluster, self.inputs):
            await create_once(self._client, self._cache, manifest)

    async def template(self, cluster: ChatCluster, revision: str) -> Object:
        """For a pod of it. Raises PlaceError when it is neither kept nor that of the resource."""
        name = names.of_revision(cluster.metadata.name, revision)
        kept = self._find(CONTROLLER_REVISION, cluster, name)
        if kept is None and revision == revision_of(cluster.spec, PodKind.CHAT):
            await self.keep(cluster)
            kept = self._find(CONTROLLER_REVISION, cluster, name)
        if kept is None:
            raise PlaceError(f"revision {revision} is not known any more")
        return chatpod.template_of(kept)

    def kept(self, cluster: ChatCluster) -> Mapping[str, Object]:
        """The ControllerRevisions by revision."""
        return self._of(CONTROLLER_REVISION, cluster)

    def _of(self, kind: Kind, cluster: ChatCluster) -> dict[str, Object]:
        found = self._cache[kind].of(cluster.metadata.namespace, cluster.metadata.name)
        return {labels_of(one)[LABEL_REVISION]: one for one in found if self._is_ours(one)}

    def last_good(self, cluster: ChatCluster) -> str:
        """ "" is none."""
        marked = {
            name: annotations_of(one)[LAST_GOOD]
            for name, one in self._of(CONFIG_MAP, cluster).items()
            if LAST_GOOD in annotations_of(one)
        }
        return max(marked, key=lambda name: marked[name], default="")

    async def mark_good(self, cluster: ChatCluster, revision: str) -> None:
        """From now on it is the last good one, also for an operator that starts later. Raises KubeError."""
        for name, one in self._of(CONFIG_MAP, cluster).items():
            is_due = (LAST_GOOD in annotations_of(one)) is not (name == revision)
            # Another tool may undo it, by what it once read.
            if is_due and not self._brake.holds(name):
                since = rfc3339(time.time()) if name == revision else None
                body: Object = {"metadata": {"annotations": {LAST_GOOD: since}}}
                namespace = cluster.metadata.namespace
                changed = await self._client.patch(CONFIG_MAP, namespace, name_of(one), body)
                self._cache[CONFIG_MAP].put(changed)
                self._brake.done(name)

    def image_for(self, cluster: ChatCluster, default: str) -> str:
        """What a resource's pods are to run. One that names no image goes on with what ran well last, so that another
        operator, whose own image (`default`) is another, touches no pod; until its `version` is changed."""
        if cluster.spec.image:
            return cluster.spec.image
        if self._found is None:
            self._found = self._serving(cluster)
        good = self.kept(cluster).get(self.last_good(cluster))
        recorded = self._found if good is None else [_recorded(good)]
        return next((one.image for one in recorded if one.release == cluster.spec.version), default)

    def gone_back(self, cluster: ChatCluster, revision: str) -> ChatCluster:
        """The resource with the image and release of a revision that is kept, if it is."""
        kept = self.kept(cluster).get(revision)
        if kept is None:
            return cluster
        recorded = _recorded(kept)
        spec = msgspec.structs.replace(cluster.spec, image=recorded.image, version=recorded.release)
        return msgspec.structs.replace(cluster, spec=spec)

    def _serving(self, cluster: ChatCluster) -> list[Recorded]:
        """Of revisions with ready pods, those with most of them first. Before any was good there is nothing else to
        go by."""
        pods = self._cache[POD].of(cluster.metadata.namespace, cluster.metadata.name)
        ready = Counter(labels_of(pod).get(LABEL_REVISION, "") for pod in pods if is_ready(pod))
        kept = self.kept(cluster)
        return [_recorded(kept[name]) for name, _ in ready.most_common() if name in kept]

    def releases(self, cluster: ChatCluster) -> dict[str, str]:
        """By revision, what `spec.version` was."""
        return {name: _recorded(one).release for name, one in self.kept(cluster).items()}

    async def forget_others(self, cluster: ChatCluster, used: Collection[str]) -> list[str]:
        """Those that no pod has and nobody may go back to; the names of those that went. Raises KubeError."""
        went = []
        namespace, name = cluster.metadata.namespace, cluster.metadata.name
        for kind in (CONTROLLER_REVISION, CONFIG_MAP):
            for one in self._cache[kind].of(namespace, name):
                revision = labels_of(one).get(LABEL_REVISION)
                if revision is None or revision in used or not self._is_ours(one):
                    continue
                await remove(self._client, self._cache, kind, one)
                if kind is CONTROLLER_REVISION:
                    went.append(revision)
        return went

    def _find(self, kind: Kind, cluster: ChatCluster, name: str) -> Object | None:
        """One of a cluster of before will be gone in a moment, and is made then."""
        meta = cluster.metadata
        found = self._cache[kind].get(meta.namespace, name)
        is_there = found is not None and not is_of_before(found, meta.name, self.inputs.owner_uid)
        return found if is_there else None

    def _is_ours(self, one: Object) -> bool:
        is_chat = labels_of(one).get(LABEL_COMPONENT) == CHAT and LABEL_REVISION in labels_of(one)
        return is_chat and self.inputs.owner_uid in owner_uids(one)


def _recorded(revision: Object) -> Recorded:
    template = chatpod.template_of(revision)
    image = str(template["spec"]["containers"][0]["image"])
    return Recorded(image, annotations_of(template).get(names.RELEASE, ""))
