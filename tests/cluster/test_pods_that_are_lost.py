"""Processes killed, pods deleted by force, a node cut off: replaced at once, and nobody misses a message."""

from __future__ import annotations

import asyncio
import time

import pytest

from cluster.kit.api import Api, Objects, condition, is_ready
from cluster.kit.chat import SLOW, Chat, Operator, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.registry import registry_of
from cluster.kit.talk import Talk, talking

pytestmark = pytest.mark.alone

KNOWN_S = 10.0
"""Until a node says that a process has ended."""
UNREGISTERED_S, REPLACED_S = 1.0, 5.0
"""From when the API server says that a pod is lost, until its entry is gone, and until another pod is made."""
LOOK_S = 0.02


async def lost_one(chat: Chat, talk: Talk, before: Objects, name: str) -> None:
    """Its entry goes and another pod is made in time, people talk on, and the cluster settles."""
    async with registry_of(chat) as registry:
        await chat.chat_pods_until(lambda pods: name not in alive(pods), KNOWN_S, "it is known")
        known = time.monotonic()
        while name in await registry.names():
            assert time.monotonic() - known < UNREGISTERED_S, f"{name} is still in the registry"
            await asyncio.sleep(LOOK_S)
        await chat.chat_pods_until(lambda pods: alive(pods) - set(before), REPLACED_S, "another pod")
        assert time.monotonic() - known < REPLACED_S * SLOW
        await talk.goes_on(20)
        after = await chat.settled(2, 90)
        assert name not in after
        assert await registry.names() == after.keys()


async def never_in_the_registry(chat: Chat, name: str) -> None:
    """Until it is cancelled, or fails."""
    async with registry_of(chat) as registry:
        while name not in await registry.names():
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"{name} is in the registry")


def alive(pods: Objects) -> set[str]:
    return {name for name, pod in pods.items() if pod["status"].get("phase") != "Failed"}


async def test_a_killed_process(api: Api, operator: Operator, faults: Faults) -> None:
    chat = Chat(api, operator.kubectl)
    chat.apply()
    before = await chat.settled(2)
    async with talking(chat.url) as talk:
        name = min(before)
        faults.kill(chat.namespace, name)
        await lost_one(chat, talk, before, name)
    # It stays for its log, and is no pod of the cluster any more.
    assert chat.kubectl.get("pod", name)["status"]["phase"] == "Failed"


async def test_a_pod_deleted_by_force(api: Api, operator: Operator) -> None:
    chat = Chat(api, operator.kubectl)
    chat.apply()
    before = await chat.settled(2)
    async with talking(chat.url) as talk:
        name = min(before)
        chat.kubectl("delete", "pod", name, "--force", "--grace-period=0")
        await lost_one(chat, talk, before, name)


async def test_a_node_that_is_cut_off_and_comes_back(
    api: Api, helm: Helm, kubectl: Kubectl, faults: Faults
) -> None:
    """Its pods run on as zombies, and come back with it: they may not register, and nobody is sent to them."""
    chat = Chat(api, kubectl)
    node = max(found["metadata"]["name"] for found in kubectl.get("nodes")["items"])
    kubectl("cordon", node)  # so that nothing but a chat pod is there
    try:
        with operating(helm, kubectl):
            chat.apply(chatPods={"replicas": 1, "connectionsPerPod": 100})
            await chat.settled(1)
            kubectl("uncordon", node)
            await chat.scale(2)
            before = await chat.settled(2)
            zombie = next(name for name, pod in before.items() if pod["spec"]["nodeName"] == node)
            async with talking(chat.url) as talk:
                with faults.node_cut_off(node):
                    await api.until(
                        "/api/v1/nodes", lambda nodes: condition(nodes[node], "Ready") != "True", 90, "missed"
                    )
                    await chat.chat_pods_until(
                        lambda pods: sum(is_ready(pod) for name, pod in pods.items() if name != zombie) == 2,
                        60,
                        "replaced elsewhere",
                    )
                    await talk.goes_on(20)
                    assert faults.processes(chat.namespace, zombie), "it runs on"
                    looking = asyncio.create_task(never_in_the_registry(chat, zombie))
                await api.until("/api/v1/nodes", lambda nodes: condition(nodes[node], "Ready") == "True", 90)
                assert zombie not in await chat.settled(2, 120)
                await talk.goes_on(20)
                assert not talk.on(zombie)
                assert not looking.done(), f"{looking}"
                looking.cancel()
    finally:
        kubectl("uncordon", node)
