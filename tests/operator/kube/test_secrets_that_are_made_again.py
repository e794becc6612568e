"""Generated Secrets when a cluster is deleted and made again: there may be one of before that is just being
collected, and one that was left empty."""

from __future__ import annotations

import pytest
from support.kube_api import eventually
from support.kube_cluster import CORE, World, started

from chatoperator.manifests.names import LABEL_CLUSTER

KEYS = f"{CORE}/secrets/talk-keys"


@pytest.mark.slow
async def test_one_that_is_collected_meanwhile_is_not_made_empty(world: World) -> None:
    await started(world)
    before = world.api.objects[KEYS]["data"]
    world.api.remove(KEYS, told=False)
    asked = world.api.asked("PATCH", "secrets/talk-keys")
    world.apply(deletionPolicy="Delete")
    await eventually(lambda: world.api.asked("PATCH", "secrets/talk-keys") > asked)
    assert KEYS not in world.api.objects
    world.api.interrupt()  # what went unheard is heard of with the next list
    world.api.forget()
    await eventually(lambda: "ownerReferences" in world.api.objects.get(KEYS, {}).get("metadata", {}), 15)
    assert world.api.objects[KEYS]["data"] not in ({}, before)


async def test_an_empty_one_is_filled(world: World) -> None:
    world.api.put(KEYS, {"metadata": {"labels": {LABEL_CLUSTER: "talk"}}})
    await started(world)
    assert world.api.objects[KEYS]["data"].keys() == {"keys.json"}
    assert "Made the Secret talk-keys" in world.events()


async def test_one_with_something_else_in_it_is_a_persons_to_mend(world: World) -> None:
    world.api.put(KEYS, {"metadata": {"labels": {LABEL_CLUSTER: "talk"}}, "data": {"keys.jsn": "e30="}})
    world.apply()
    await eventually(lambda: world.condition("Degraded").get("reason") == "SecretMissing", 15)
    assert world.api.objects[KEYS]["data"] == {"keys.jsn": "e30="}
    assert not world.chat_pods()
