"""A ChatCluster that was deleted and made again before anything of it was collected."""

from __future__ import annotations

import time

import pytest
from support.kube_api import Object, eventually
from support.kube_cluster import CLUSTER, CORE, World, started

from chatoperator.kube.cache import Cache
from chatoperator.kube.children import COLLECTED_S, Children, prepare
from chatoperator.kube.errors import Foreign
from chatoperator.kube.refusals import Refusals
from chatoperator.manifests.names import LABEL_CLUSTER

KEYS = f"{CORE}/secrets/talk-keys"


def owned(world: World, uid: str) -> dict[str, Object]:
    """By path."""
    return {
        path: found
        for path, found in world.api.objects.items()
        if any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences", []))
    }


async def rounds(world: World, count: int) -> None:
    before = world.counts.rounds.total()
    await eventually(lambda: world.counts.rounds.total() >= before + count, 20)


@pytest.mark.slow
async def test_what_is_left_of_the_old_one_goes_and_is_never_taken_over(world: World) -> None:
    pods = await started(world, deletionPolicy="Delete")
    before = world.resource()["metadata"]["uid"]
    old = owned(world, before)
    world.api.remove(CLUSTER)
    world.apply(deletionPolicy="Delete")
    now = world.resource()["metadata"]["uid"]
    # Secrets are the garbage collector's: the operator may not delete any.
    await eventually(lambda: owned(world, before) == {KEYS: old[KEYS]})
    await rounds(world, 2)
    assert not world.chat_pods()
    assert owned(world, before) == {KEYS: old[KEYS]}
    assert not world.children("deployments") | world.children("jobs"), "nothing is made that reads it"
    world.api.remove(KEYS)
    await eventually(lambda: bool(world.children("jobs")), 15)
    assert not world.chat_pods(), "the tables were made for the other one"
    world.finish_schema()
    await world.chat_pods_are(2)
    await eventually(
        lambda: old.keys() - owned(world, now).keys() == {f"{CORE}/pods/{name}" for name in pods}
    )
    assert world.api.objects[KEYS]["data"] != old[KEYS]["data"]
    assert not any(note.startswith("Removed") for note in world.events())


async def test_the_status_of_the_old_one_is_not_written_on_the_new(world: World) -> None:
    """It was on its way when the other was made."""
    await started(world)
    world.api.put(CLUSTER, {**world.resource(), "status": {}}, told=False)
    before = world.api.asked("PATCH", "talk/status")
    name = next(iter(world.chat_pods()))
    world.pod_status(name, ready=False)
    await eventually(lambda: world.api.asked("PATCH", "talk/status") > before)
    assert not world.status()


async def test_what_is_not_collected_is_told(world: World) -> None:
    path, now = f"{CORE}/configmaps/town-live", time.monotonic()
    meta = {"name": "town-live", "namespace": "team", "labels": {LABEL_CLUSTER: "town"}}
    owner = {"kind": "ChatCluster", "name": "town", "uid": "0", "controller": True}
    world.api.put(path, {"metadata": {**meta, "ownerReferences": [owner]}})
    cache: Cache = world.cache
    await eventually(
        lambda: any(
            one["metadata"]["name"] == "town-live" for store in cache.stores.values() for one in store.all()
        )
    )
    wanted = prepare([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}])
    client = world.api.client()
    children = Children(client, cache, Refusals(), "1", now=lambda: now)
    assert (await children.ensure(wanted)).failed == []
    now += COLLECTED_S + 1
    (why,) = (await children.ensure(wanted)).failed
    await client.aclose()
    assert isinstance(why, Foreign)
    assert "ConfigMap town-live is left of a ChatCluster town that was deleted" in str(why)
