"""An operator of several namespaces goes on in those that are left when one is gone, with its rights there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from support.kube_api import KubeApi, eventually, kubeconfig
from support.kube_cluster import CLUSTER, SPEC, World, started, tended
from support.valkey import Valkey

from chatoperator.kube.leader import Leader
from chatoperator.kube.operator import Operator
from chatoperator.manifests.inputs import DevelopmentImages

pytestmark = pytest.mark.slow

LOST = "lost"
IN_LOST = CLUSTER.replace("/team/", f"/{LOST}/")


@pytest.fixture
async def world(valkey: Valkey) -> AsyncIterator[World]:
    async with KubeApi().running() as api:
        made = World(api, valkey)
        made.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        yield made


async def test_a_namespace_that_goes_stops_no_other(world: World, tmp_path: Path) -> None:
    world.api.put(IN_LOST, {"metadata": {"generation": 1}, "spec": SPEC})
    async with tended(world, tmp_path, namespaces=("team", LOST)):
        names = await started(world)
        world.api.closed.add(LOST)
        world.api.interrupt()
        await eventually(lambda: not world.cache.is_current(LOST))
        await eventually(lambda: world.cache.is_current("team"))
        world.apply(chatPods={"replicas": 3})
        assert set(names) < set(await world.chat_pods_are(3))
        assert "forbidden" in str(world.cache.problem(LOST))
        assert world.cache.problem("team") is None


async def test_one_that_is_not_there_yet_keeps_no_other_from_being_heard(
    world: World, tmp_path: Path
) -> None:
    """Changes of resources are heard at once, and not at the next list."""
    world.api.closed.add(LOST)
    async with tended(world, tmp_path, namespaces=("team", LOST)):
        await started(world)
        world.apply(chatPods={"replicas": 3})
        await world.chat_pods_are(3)
        # A list of ours, and a list and a watch of kopf's, which has not begun anew meanwhile.
        assert world.api.asked("GET", "/team/chatclusters") == 3


async def test_one_that_comes_back_is_heard_again(world: World, tmp_path: Path) -> None:
    world.api.closed.add(LOST)
    async with tended(world, tmp_path, namespaces=("team", LOST)):
        await eventually(lambda: not world.cache.is_current(LOST))
        world.api.closed.clear()
        await eventually(lambda: world.cache.is_current(LOST), 20)
        await eventually(lambda: world.api.is_watched(IN_LOST), 20)
        await eventually(lambda: world.api.is_watched(CLUSTER))


async def test_the_operator_is_ready_while_there_is_any(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not would keep nodes from being drained, by its PodDisruptionBudget."""
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig(world.api.url)))
    monkeypatch.setenv("KUBECONFIG", str(file))
    world.api.closed.add(LOST)
    client = world.api.client()
    leader = Leader(client, "ops", "chatcluster", "one")
    operator = Operator(
        client,
        leader,
        image="localhost/chatcluster:1",
        namespaces=("team", LOST),
        operator_namespace="ops",
        development=DevelopmentImages(),
        trust=tmp_path,
    )
    await leader.acquire()
    assert not operator.is_ready(), "nothing is listed yet"
    working = asyncio.create_task(operator.run())
    try:
        await eventually(operator.is_ready)
        world.api.closed.add("team")
        world.api.interrupt()
        await eventually(lambda: not operator.is_ready())
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await client.aclose()
