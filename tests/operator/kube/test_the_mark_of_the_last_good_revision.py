"""The note on the ConfigMap of the last good revision, where another tool writes that of before again and again."""

from __future__ import annotations

import asyncio

from support.kube_api import KubeApi, Object, eventually
from support.manifest_samples import SMALL, cluster_of

from chatoperator.kube.cache import Cache
from chatoperator.kube.kinds import CONFIG_MAP
from chatoperator.kube.revisions import LAST_GOOD, Revisions
from chatoperator.manifests.inputs import DevelopmentImages, Inputs
from chatoperator.manifests.names import CHAT, LABEL_CLUSTER, LABEL_COMPONENT, LABEL_REVISION

INPUTS = Inputs(owner_uid="owner", image="i", operator_namespace="ops", development=DevelopmentImages())
MAPS = "/api/v1/namespaces/team/configmaps"


def of_revision(revision: str, marked: str = "") -> Object:
    labels = {LABEL_CLUSTER: "talk", LABEL_COMPONENT: CHAT, LABEL_REVISION: revision}
    annotations = {LAST_GOOD: marked} if marked else {}
    meta = {"labels": labels, "annotations": annotations, "ownerReferences": [{"uid": "owner"}]}
    return {"metadata": meta}


async def test_it_is_taken_away_ever_more_rarely() -> None:
    async with KubeApi().running() as api:
        api.put(f"{MAPS}/talk-chat-new", of_revision("new"))
        client = api.client()
        cache = Cache(client, ["team"])
        task = asyncio.create_task(cache.run())
        revisions, cluster = Revisions(client, cache, INPUTS), cluster_of(SMALL, namespace="team")
        try:
            for _ in range(10):
                put = api.put(f"{MAPS}/talk-chat-old", of_revision("old", "2026-01-01T00:00:00Z"))
                version = put["metadata"]["resourceVersion"]
                await eventually(lambda version=version: _seen(cache) == version)  # type: ignore[misc]
                await revisions.mark_good(cluster, "new")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.aclose()
        assert api.asked("PATCH", "talk-chat-new") == api.asked("PATCH", "talk-chat-old") == 1
        assert revisions.last_good(cluster) == "new"


def _seen(cache: Cache) -> str:
    found = cache[CONFIG_MAP].get("team", "talk-chat-old") or {"metadata": {"resourceVersion": ""}}
    return str(found["metadata"]["resourceVersion"])
