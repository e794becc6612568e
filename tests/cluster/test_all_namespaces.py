"""The operator as the chart installs it if nothing is said: for all namespaces. So it sees nodes, and acts before
their pods are lost."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, Objects, condition, is_ready
from cluster.kit.chat import Chat, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.kit.talk import talking

pytestmark = [pytest.mark.alone, pytest.mark.slow]

MISSED_S = 90.0
"""Until the control plane says that a node is gone: 40 to 50 s by its defaults."""
REPLACED_S = 60.0


def on(pods: Objects, node: str) -> set[str]:
    return {name for name, pod in pods.items() if is_ready(pod) and pod["spec"].get("nodeName") == node}


async def test_pods_move_from_a_cordoned_node_and_from_one_whose_kubelet_is_away(
    api: Api, helm: Helm, kubectl: Kubectl, namespaces: Namespaces, faults: Faults
) -> None:
    chat = Chat(api, Kubectl(namespaces.make()))
    node = max(found["metadata"]["name"] for found in kubectl.get("nodes")["items"])
    kubectl("cordon", node)  # so that nothing but a chat pod is there
    try:
        with operating(helm, kubectl, watchNamespaces=[]):
            chat.apply(chatPods={"replicas": 1, "connectionsPerPod": 100})
            await chat.settled(1)
            kubectl("uncordon", node)
            await chat.scale(2)
            assert on(await chat.settled(2), node)
            async with talking(chat.url) as talk:
                was = talk.moves()
                kubectl("cordon", node)
                await chat.chat_pods_until(lambda pods: not on(pods, node), REPLACED_S, "replaced elsewhere")
                await chat.settled(2)
                await talk.goes_on(20)
                assert max(talk.moved(was)) <= 1
                assert not talk.losses()

                kubectl("uncordon", node)
                await chat.scale(3)
                there = on(await chat.settled(3), node)
                assert there
                was = talk.moves()
                with faults.kubelet_stopped(node):
                    await api.until(
                        "/api/v1/nodes",
                        lambda nodes: condition(nodes[node], "Ready") != "True",
                        MISSED_S,
                        "missed",
                    )
                    after = await chat.settled(3, REPLACED_S)
                    assert not there & after.keys()
                    await talk.goes_on(20)
                    assert max(talk.moved(was)) <= 1
                    assert not talk.losses()
                await api.until(
                    "/api/v1/nodes", lambda nodes: condition(nodes[node], "Ready") == "True", MISSED_S
                )
    finally:
        kubectl("uncordon", node)
