"""A chat pod as the plan sees it: what the API server says of it, and of its registry entry only what is its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs
from support.kube_api import KubeApi, eventually
from support.kube_cluster import World, started, tended
from support.valkey import Valkey

from chatkernel.registry import PodEntry, PodState
from chatoperator.kube.podview import PodMemory, Surroundings, view_of
from chatoperator.manifests.names import PORT

NOW = 1_800_000_000.0
ENTRY = PodEntry("talk-chat-1", "one", "ws://x", "local", "r", PodState.READY, 3, 100, 1, 77)
FORGED = structs.replace(ENTRY, incarnation="forged", state=PodState.DRAINING, connections=0, lease_until=99)
POD: dict[str, Any] = {
    "metadata": {"name": "talk-chat-1", "labels": {"chatcluster.dev/revision": "r"}},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


def around(entry: PodEntry | None) -> Surroundings:
    return Surroundings(entry=entry, registry_known=True, node=None, nodes_known=False)


def test_an_entry_of_another_run_tells_nothing_of_the_pod() -> None:
    memory = PodMemory()
    assert view_of(POD, memory, around(ENTRY), NOW).connections == 3
    memory.incarnation, memory.told_at = "one", NOW
    view = view_of(POD, memory, around(FORGED), NOW + 1)
    assert (view.incarnation, view.told_at) == ("one", NOW)
    assert (view.drain_told, view.draining_since, view.connections) == (False, None, None)
    assert view.answered_at == NOW, "it is no answer, either"


def test_what_a_pod_said_of_its_clients_long_ago_is_no_count() -> None:
    """It is asked when it is new and nobody is there yet: an entry that is lost later makes it no empty pod."""
    memory = PodMemory(incarnation="one", connections=0, counted_at=NOW)
    assert view_of(POD, memory, around(None), NOW + 1).connections == 0
    assert view_of(POD, memory, around(ENTRY), NOW + 60).connections == 3
    assert view_of(POD, memory, around(None), NOW + 61).connections is None


READY = {
    "metadata": {"name": "n1"},
    "spec": {},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def is_lost(memory: PodMemory, node: dict[str, Any] | None, *, nodes_known: bool = True) -> bool:
    on_a_node = {**POD, "spec": {"nodeName": "n1"}}
    seen = Surroundings(entry=None, registry_known=True, node=node, nodes_known=nodes_known)
    return view_of(on_a_node, memory, seen, NOW).node_lost


def test_a_node_that_was_never_seen_is_unknown_and_not_lost() -> None:
    """A pod may be seen before its new node is."""
    memory = PodMemory()
    assert not is_lost(memory, None)
    assert not is_lost(memory, READY)
    assert not is_lost(memory, None, nodes_known=False), "nobody may see nodes any more"
    assert is_lost(memory, None), "it is gone"


def test_before_the_pod_was_asked_its_entry_is_believed() -> None:
    view = view_of(POD, PodMemory(), around(FORGED), NOW)
    assert (view.incarnation, view.told_at, view.drain_told) == ("forged", None, True)


def test_an_entry_from_before_a_pod_heard_that_it_stays_is_no_drain() -> None:
    draining = structs.replace(ENTRY, state=PodState.DRAINING, connections=0, lease_until=10_000)
    memory = PodMemory()
    assert view_of(POD, memory, around(draining), NOW).drain_told
    memory.told_since, memory.stays_from = None, memory.lease_until
    on_its_way = structs.replace(draining, lease_until=11_000)
    for late in (draining, on_its_way):
        view = view_of(POD, memory, around(late), NOW + 1)
        assert (view.drain_told, view.draining_since) == (False, None)
    of_now = structs.replace(draining, lease_until=14_000)
    assert view_of(POD, memory, around(of_now), NOW + 4).draining_since == NOW + 4


class Answers:
    """The health routes of a pod."""

    def __init__(self) -> None:
        self.says: dict[str, object] = {"incarnation": "one", "connections": 3}
        self.asked = 0
        self.orders: list[str] = []

    async def order(self, request: web.Request) -> web.Response:
        self.orders.append(request.path)
        return web.json_response(self.says)

    async def statz(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.says)


@pytest.fixture
async def pod() -> AsyncIterator[Answers]:
    answers, app = Answers(), web.Application()
    app.router.add_get("/statz", answers.statz)
    app.router.add_post("/{order:drain|undrain}", answers.order)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, PORT).start()
    yield answers
    await runner.cleanup()


ADDRESS = "127.64.3.2"
"""A pod has an address of its own: the port is the same for all."""


async def test_a_pod_that_does_not_say_which_run_it_is_is_not_asked_all_the_time(
    valkey: Valkey, pod: Answers, tmp_path: Path
) -> None:
    pod.says = {"connections": 3}
    async with KubeApi().running() as api:
        world = World(api, valkey, address=ADDRESS)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            (name,) = await started(world, 1, chatPods={"replicas": 1})
            await eventually(lambda: pod.asked == 1)
            world.pod_status(name, ready=False)  # so that it is looked at every second
            await eventually(lambda: world.status()["chatPods"]["ready"] == 0)
            world.pod_status(name, ready=True)
            await eventually(lambda: world.status()["chatPods"]["ready"] == 1)
            assert pod.asked == 1


@pytest.mark.slow
async def test_a_forged_entry_under_the_name_of_a_living_pod_is_removed_and_the_pod_stays(
    valkey: Valkey, pod: Answers, tmp_path: Path
) -> None:
    async with KubeApi().running() as api:
        world = World(api, valkey, address=ADDRESS)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            names = await started(world)
            await eventually(lambda: pod.asked >= len(names))
            await world.forge(structs.replace(FORGED, name=names[0]))
            await eventually(lambda: f"Removed the entry of {names[0]}" in str(world.events()), 15)
            assert sorted(world.chat_pods()) == names
            async with world.registry() as registry:
                assert [entry.name for entry in (await registry.snapshot()).entries] == names[1:]
            assert await world.renew(names[0])


@pytest.mark.slow
async def test_a_pod_that_is_wanted_again_is_not_ended_by_an_entry_that_is_late(
    valkey: Valkey, pod: Answers, tmp_path: Path
) -> None:
    """It has answered that it stays, and its entry says for a moment yet that it drains and has nobody left."""
    async with KubeApi().running() as api:
        world = World(api, valkey, address=ADDRESS)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            names = await started(world)
            world.apply(chatPods={"replicas": 1})
            await eventually(lambda: "/drain" in pod.orders)
            (drained,) = world.noted(names)
            await world.renew(drained, connections=1, state=PodState.DRAINING)
            await eventually(lambda: world.status()["chatPods"]["draining"] == 1)
            world.apply(chatPods={"replicas": 2})
            await eventually(lambda: "/undrain" in pod.orders)
            await world.renew(drained, connections=0, state=PodState.DRAINING)
            await eventually(lambda: not world.noted(names))
            await eventually(lambda: world.status()["chatPods"]["draining"] == 0)
            await world.renew(drained, connections=1)
            world.apply(chatPods={"replicas": 3})
            await world.chat_pods_are(3)
            assert api.asked("DELETE", "/pods/") == 0
