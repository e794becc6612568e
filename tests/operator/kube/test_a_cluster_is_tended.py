"""A whole cluster by the operator's own parts, on the small API server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.kube_api import KubeApi, eventually
from support.kube_cluster import CLUSTER, CORE, World, started, tended
from support.valkey import Valkey

from chatoperator.manifests.names import REBALANCE


async def becomes_quiet(world: World) -> bool:
    """Whether there comes a second in which nothing is asked of the API server."""
    for _ in range(15):
        before = len(world.api.seen)
        await asyncio.sleep(1.0)
        if len(world.api.seen) == before:
            return True
    return False


async def test_it_comes_up_and_then_rests(world: World) -> None:
    world.apply()
    await eventually(lambda: "talk-live" in world.children("configmaps"))
    await eventually(lambda: world.condition("StorageReady").get("reason") == "SchemaPending")
    await eventually(lambda: bool(world.children("jobs")))
    # Services do not start without the store's tables.
    assert not world.chat_pods()
    assert not world.children("deployments")
    world.finish_schema()
    await eventually(lambda: "talk-api" in world.children("deployments"))
    names = await world.chat_pods_are(2)
    for name in names:
        await world.run(name, connections=3)
    await eventually(lambda: world.status().get("chatPods", {}).get("connections") == 6, 15)
    assert world.condition("StorageReady")["status"] == "True"
    assert world.status()["selector"].count("=") == 3
    assert sum("Started the chat pod" in note for note in world.events()) == 2
    assert not any(note.startswith("Removed") for note in world.events())
    keys = world.api.objects[f"{CORE}/secrets/talk-keys"]
    world.api.put(f"{CORE}/secrets/unrelated", {})
    assert await becomes_quiet(world)
    assert world.api.objects[f"{CORE}/secrets/talk-keys"]["metadata"]["uid"] == keys["metadata"]["uid"]


async def test_a_pod_that_was_deleted_by_force_is_replaced_and_may_never_register_again(world: World) -> None:
    lost, other = await started(world)
    world.api.remove(f"{CORE}/pods/{lost}")
    names = await world.chat_pods_are(2)
    assert other in names
    assert lost not in names
    async with asyncio.timeout(10):
        while lost in await world.registered():
            await asyncio.sleep(0.05)
    assert not await world.may_register(lost)
    assert await world.may_register(other)


async def test_a_pod_that_died_is_replaced_and_stays_for_its_log(world: World) -> None:
    dead, _ = await started(world)
    world.pod_status(dead, ready=False, phase="Failed")
    await world.chat_pods_are(3)
    annotations = world.chat_pods()[dead]["metadata"]["annotations"]
    assert "chatcluster.dev/forgotten" in annotations
    await eventually(lambda: world.status()["chatPods"]["replicas"] == 2)


async def test_a_pod_that_dies_while_a_new_version_makes_its_tables_is_replaced_at_once(world: World) -> None:
    dead, other = await started(world)
    (kept,) = world.children("controllerrevisions")
    world.apply(version="2")
    await eventually(lambda: len(world.children("controllerrevisions")) == 2)
    world.api.remove(f"{CORE}/pods/{dead}")
    names = await world.chat_pods_are(2)
    assert other in names
    assert all(name.startswith(kept) for name in names), "of the revision that the tables are of"
    for name in names:
        await world.run(name)
    world.finish_schema()
    await world.chat_pods_are(3)


async def test_a_revision_that_ran_well_needs_no_tables_again(valkey: Valkey, tmp_path: Path) -> None:
    async with KubeApi().running() as api:
        world = World(api, valkey)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            before = await started(world)
        world.mark_good()
        for path in [path for path in api.objects if "/pods/" in path or "/jobs/" in path]:
            api.remove(path)
        async with tended(world, tmp_path):
            await eventually(lambda: bool(world.children("jobs")))
            assert not set(before) & set(await world.chat_pods_are(2))


async def test_a_secret_that_is_missing_is_told_and_found_when_it_comes(world: World) -> None:
    world.api.remove(f"{CORE}/secrets/stores")
    world.apply()
    await eventually(lambda: world.condition("RegistryReady").get("reason") == "SecretMissing", 15)
    assert world.condition("StorageReady")["reason"] == "SecretMissing"
    assert "stores" in world.condition("RegistryReady")["message"]
    world.secret(redis=world.valkey.url, postgresql="mysql://db")
    await eventually(lambda: world.condition("StorageReady").get("reason") == "SecretInvalid", 15)
    world.secret(redis=world.valkey.url, postgresql="postgresql://db/chat")
    await eventually(lambda: bool(world.children("jobs")), 15)


async def test_a_drain_is_noted_on_the_pod_before_it_is_ordered(world: World) -> None:
    await started(world, 2)
    world.apply(chatPods={"replicas": 1})

    def drained() -> list[str]:
        return [
            name
            for name, pod in world.chat_pods().items()
            if "chatcluster.dev/drain" in (pod["metadata"].get("annotations") or {})
        ]

    await eventually(lambda: len(drained()) == 1)
    world.apply(chatPods={"replicas": 2})
    assert len(world.chat_pods()) == 2


async def test_an_api_server_that_was_away_has_lost_no_pod(world: World) -> None:
    """While nothing is heard nothing is done; and then everything is as it was."""
    names = await started(world)
    made = world.api.asked("POST", "/pods")
    world.api.busy = ["0"] * 100_000
    world.api.interrupt()
    await eventually(lambda: not world.cache.is_current("team"))
    world.api.busy = []
    await eventually(lambda: world.cache.is_current("team"), 15)
    world.apply(chatPods={"replicas": 3})
    await world.chat_pods_are(3)
    assert set(names) < set(world.chat_pods())
    assert world.api.asked("POST", "/pods") == made + 1
    assert world.api.asked("DELETE", "/pods") == 0


@pytest.mark.slow
async def test_another_way_to_the_same_host_leaves_nothing_of_the_old_one(world: World) -> None:
    """The pods stay, as their address does: their ways are exchanged."""
    host = {"host": "chat.example.org"}
    names = await started(world, exposure={**host, "ingress": {}})
    await eventually(lambda: world.children("ingresses") == {"talk-api", *names})
    world.apply(exposure={**host, "gateway": {"name": "edge"}})
    await eventually(lambda: world.children("httproutes") == {"talk-api", *names})
    await eventually(lambda: not world.children("ingresses"))
    assert sorted(world.chat_pods()) == names
    assert set(names) < world.children("services")
    # Without any, those that are there are of use to the clients of pods that still go by them.
    world.apply()
    await eventually(lambda: "talk-api" not in world.children("httproutes"))
    assert set(names) <= world.children("httproutes")


async def test_every_round_of_rebalancing_is_told(world: World) -> None:
    full, _ = await started(world)
    await world.renew(full, connections=60)
    for number in (1, 2):
        asked = {REBALANCE: datetime.now(UTC).isoformat()}
        resource = world.resource()
        world.api.put(CLUSTER, {**resource, "metadata": {**resource["metadata"], "annotations": asked}})
        said = f"The chat pod {full} moves 30 clients: 60 connections, mean 30.0"
        await eventually(lambda number=number, said=said: world.events().count(said) == number)
