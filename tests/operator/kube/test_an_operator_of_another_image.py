"""What a cluster runs whose resource names no image: the operator's when it was made, and then the same until its
resource asks for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from support.kube_api import KubeApi, Object, eventually
from support.kube_cluster import World, started, tended
from support.manifest_samples import GATEWAY, INPUTS, cluster_of
from support.valkey import Valkey

from chatoperator.kube.cache import Cache
from chatoperator.kube.kinds import CONFIG_MAP, CONTROLLER_REVISION, POD
from chatoperator.kube.revisions import LAST_GOOD, Revisions
from chatoperator.manifests import chatpod
from chatoperator.manifests.inputs import resolved
from chatoperator.model import PodKind
from chatoperator.revision import revision_of
from chatoperator.spec import ChatCluster

NEW = "localhost/chatcluster:2"


def image_of(pod: Object) -> str:
    return str(pod["spec"]["containers"][0]["image"])


async def test_another_operator_touches_no_pod_of_a_cluster(valkey: Valkey, tmp_path: Path) -> None:
    async with KubeApi().running() as api:
        world = World(api, valkey)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            before = await started(world)
            (old,) = {image_of(pod) for pod in world.chat_pods().values()}
            jobs = world.children("jobs")
        async with tended(world, tmp_path, image=NEW):
            world.apply(chatPods={"replicas": 3})
            after = await world.chat_pods_are(3)
            for name in after:
                await world.run(name)
            await eventually(lambda: world.status()["chatPods"]["ready"] == 3)
            assert set(before) < set(after)
            assert {image_of(pod) for pod in world.chat_pods().values()} == {old}
            assert len(world.children("controllerrevisions")) == 1
            assert world.children("jobs") == jobs
            for name in world.children("deployments"):
                deployment = api.objects[f"/apis/apps/v1/namespaces/team/deployments/{name}"]
                assert image_of(deployment["spec"]["template"]) == old, name
            assert world.status()["image"] == old
            # And when it is asked for, it rolls out.
            world.apply(chatPods={"replicas": 3}, version="2")
            await eventually(lambda: world.status()["image"] == NEW)


class Kept:
    """Revisions as they stand on the API server."""

    def __init__(self) -> None:
        client: Any = None  # nothing is asked of it
        self._cache = Cache(client, ["apps"])
        self._revisions = Revisions(client, self._cache, INPUTS)
        self._version = 1

    def keep(self, cluster: ChatCluster, image: str, *, good_since: str = "", ready_pods: int = 0) -> None:
        cluster = resolved(cluster, msgspec.structs.replace(INPUTS, image=image))
        revision = revision_of(cluster.spec, PodKind.CHAT)
        settings, kept = chatpod.revision_objects(cluster, INPUTS)
        if good_since:
            settings["metadata"]["annotations"] = {LAST_GOOD: good_since}
        self._put(CONFIG_MAP, settings)
        self._put(CONTROLLER_REVISION, kept)
        for number in range(ready_pods):
            pod = chatpod.pod(
                chatpod.template_of(kept), f"{revision}-{number}", chatpod.owner_of(cluster, INPUTS)
            )
            self._put(POD, {**pod, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})

    def image_for(self, cluster: ChatCluster, default: str) -> str:
        return self._revisions.image_for(cluster, default)

    def _put(self, kind: Any, whole: Object) -> None:
        self._version += 1
        whole["metadata"]["resourceVersion"] = str(self._version)
        self._cache[kind].put(whole)


def test_a_new_cluster_runs_the_operators_own() -> None:
    assert Kept().image_for(cluster_of(GATEWAY), "new") == "new"


def test_what_the_resource_names_is_taken() -> None:
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "old", good_since="2026-01-01T00:00:00Z")
    assert kept.image_for(cluster_of({**GATEWAY, "image": "mine"}), "new") == "mine"


def test_what_ran_well_last_goes_on_whatever_else_is_changed() -> None:
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "old", good_since="2026-01-01T00:00:00Z")
    kept.keep(cluster_of({**GATEWAY, "region": "eu"}), "bad", ready_pods=2)
    assert kept.image_for(cluster_of({**GATEWAY, "region": "us"}), "new") == "old"


def test_a_named_image_that_ran_well_stays_when_it_is_named_no_longer() -> None:
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "old")
    kept.keep(cluster_of({**GATEWAY, "image": "mine"}), "", good_since="2026-01-01T00:00:00Z")
    assert kept.image_for(cluster_of(GATEWAY), "new") == "mine"


def test_another_version_asks_for_the_operators_own() -> None:
    kept = Kept()
    kept.keep(cluster_of({**GATEWAY, "version": "1"}), "old", good_since="2026-01-01T00:00:00Z")
    assert kept.image_for(cluster_of({**GATEWAY, "version": "1"}), "new") == "old"
    assert kept.image_for(cluster_of({**GATEWAY, "version": "2"}), "new") == "new"
    assert kept.image_for(cluster_of(GATEWAY), "new") == "new"


def test_where_nothing_was_good_yet_the_pods_that_serve_people_stay_as_they_are() -> None:
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "old", ready_pods=1)
    kept.keep(cluster_of({**GATEWAY, "region": "eu"}), "older", ready_pods=0)
    assert kept.image_for(cluster_of(GATEWAY), "new") == "old"


def test_where_nothing_ever_worked_there_is_nothing_to_keep() -> None:
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "broken")
    assert kept.image_for(cluster_of(GATEWAY), "new") == "new"


def test_what_was_found_at_first_counts_until_something_is_good() -> None:
    """Pods that are not ready for a moment are no reason for others."""
    kept = Kept()
    kept.keep(cluster_of(GATEWAY), "old", ready_pods=1)
    assert kept.image_for(cluster_of(GATEWAY), "new") == "old"
    other = Kept()
    other.keep(cluster_of(GATEWAY), "new")
    assert other.image_for(cluster_of(GATEWAY), "new") == "new"
    other.keep(cluster_of({**GATEWAY, "region": "eu"}), "mine", ready_pods=1)
    assert other.image_for(cluster_of(GATEWAY), "new") == "new"
