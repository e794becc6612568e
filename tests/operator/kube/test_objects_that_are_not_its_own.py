"""Objects of others that have the name of one of a cluster's own: they are left alone, and a condition says so."""

from __future__ import annotations

from typing import Any

import pytest
from support.kube_api import KubeApi, eventually
from support.kube_cluster import CORE, World, started

from chatoperator.kube.cache import Cache
from chatoperator.kube.children import create_once
from chatoperator.kube.errors import Foreign
from chatoperator.kube.whose import foreign
from chatoperator.manifests.names import LABEL_CLUSTER

SERVICE, KEYS = f"{CORE}/services/talk-api", f"{CORE}/secrets/talk-keys"
OURS = {LABEL_CLUSTER: "talk"}
MINE: dict[str, Any] = {"data": {"mine": "bWluZQ=="}, "metadata": {}}


def made(labels: dict[str, str], *owners: tuple[str, str], uid: str = "1") -> dict[str, Any]:
    references = [{"kind": kind, "name": name, "uid": uid, "controller": True} for kind, name in owners]
    return {"metadata": {"name": "talk-api", "labels": labels, "ownerReferences": references}}


def test_what_has_the_label_or_the_owner_is_the_clusters() -> None:
    wanted = made(OURS, ("ChatCluster", "talk"))
    assert foreign(made(OURS), wanted) == ""
    assert foreign(made({}, ("ChatCluster", "talk")), wanted) == "", "somebody took its label"
    assert foreign(made(OURS, ("ChatCluster", "talk"), uid="0"), wanted) == "", "of one that was deleted"


def test_what_has_neither_or_another_owner_is_not() -> None:
    wanted = made(OURS, ("ChatCluster", "talk"))
    assert foreign(made({}), wanted) == "has no label chatcluster.dev/cluster=talk"
    assert foreign(made({LABEL_CLUSTER: "other"}), wanted)
    assert foreign(made(OURS, ("Deployment", "x")), wanted) == "belongs to Deployment x"
    assert foreign(made(OURS, ("ChatCluster", "other")), wanted)


def test_what_the_cluster_does_not_own_may_be_made_by_another_controller() -> None:
    """Signing keys that come out of a vault, for example."""
    assert foreign(made(OURS, ("ExternalSecret", "keys")), made(OURS)) == ""
    assert (
        foreign(made({}, ("ExternalSecret", "keys")), made(OURS))
        == "has no label chatcluster.dev/cluster=talk"
    )
    assert foreign(made({}, ("ChatCluster", "talk")), made(OURS)) == "", "when it owned it still"


def degraded(world: World) -> str:
    condition = world.condition("Degraded")
    return str(condition["message"]) if condition.get("reason") == "NameTaken" else ""


async def test_a_persons_service_is_left_alone_and_told(world: World) -> None:
    world.api.put(SERVICE, MINE)
    before = world.api.objects[SERVICE]
    await started(world)
    await eventually(lambda: bool(degraded(world)), 15)
    assert "Service talk-api has no label chatcluster.dev/cluster=talk" in degraded(world)
    assert world.api.objects[SERVICE] == before
    assert world.api.asked("PATCH", "/services/talk-api") == 0


@pytest.mark.slow
async def test_it_is_taken_over_when_it_is_given(world: World) -> None:
    world.api.put(SERVICE, MINE)
    await started(world)
    await eventually(lambda: bool(degraded(world)), 15)
    world.api.put(SERVICE, {**MINE, "metadata": {"labels": OURS}})
    await eventually(lambda: "ownerReferences" in world.api.objects[SERVICE]["metadata"], 20)
    await eventually(lambda: not degraded(world), 15)


async def test_a_secret_that_is_not_the_clusters_does_not_become_its_keys(world: World) -> None:
    world.api.put(KEYS, {**MINE, "data": {"keys.json": "e30="}})
    before = world.api.objects[KEYS]
    world.apply()
    await eventually(lambda: bool(degraded(world)), 15)
    assert world.api.objects[KEYS] == before
    assert not world.children("jobs") and not world.children("deployments") and not world.chat_pods()
    world.api.remove(KEYS)
    await eventually(lambda: bool(world.children("jobs")), 15)
    world.finish_schema()
    await world.chat_pods_are(2)


async def test_a_running_cluster_goes_on_when_its_secret_is_anothers(world: World) -> None:
    names = await started(world)
    deployments = world.objects("deployments")
    world.api.remove(KEYS)
    world.api.put(KEYS, {**MINE, "data": {"keys.json": "e30="}})
    await eventually(lambda: bool(degraded(world)), 15)
    assert sorted(world.chat_pods()) == names
    assert world.objects("deployments") == deployments


async def test_what_never_changes_is_not_taken_for_what_is_somebody_elses() -> None:
    """Of an object that is made once, too: the settings of a revision, the Job that makes tables."""
    path = f"{CORE}/configmaps/talk-chat-1"
    wanted = {"apiVersion": "v1", "kind": "ConfigMap", **made(OURS, ("ChatCluster", "talk"))}
    wanted["metadata"] |= {"name": "talk-chat-1", "namespace": "team"}
    async with KubeApi().running() as api:
        client = api.client()
        cache = Cache(client, ["team"])
        api.put(path, MINE)
        with pytest.raises(Foreign, match="ConfigMap talk-chat-1 has no label"):
            await create_once(client, cache, wanted)
        api.put(path, {**MINE, "metadata": {"labels": OURS}})
        assert not await create_once(client, cache, wanted), "the cache has only not seen it yet"
        api.remove(path)
        assert await create_once(client, cache, wanted)
        await client.aclose()
