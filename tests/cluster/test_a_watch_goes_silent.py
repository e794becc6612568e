"""One watch says nothing more while the others live: it is noticed, and nothing wrong is done until then."""

from __future__ import annotations

import asyncio
import time

import pytest

from cluster.kit.api import Api
from cluster.kit.apiproxy import ApiProxy, operating_through_proxy
from cluster.kit.chat import Chat
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.kit.talk import talking

SILENCE_S = 110.0
"""The API server sends a bookmark each minute; without one a watch is begun anew after 75 s."""
RELISTED_S = 80.0
"""ChatClusters are listed every 45 s."""


async def grows_in_spite(chat: Chat, proxy: ApiProxy, silent: str, within_s: float) -> None:
    """From one pod to two, while of its namespace one collection's watch is silent. Nothing else is done."""
    before = await chat.settled(1)
    async with talking(chat.url, people=4, channels=2) as talk:
        proxy.silence(f"/{chat.namespace}/{silent}")
        began = time.monotonic()
        await chat.scale(2)
        assert before.keys() < (await chat.settled(2, within_s)).keys()
        assert time.monotonic() - began < within_s
        await talk.goes_on(20)
        assert not any(device.client.moves or device.recorder.losses for device in talk.devices)
    said = chat.events()
    assert sum(note.startswith("Started the chat pod") for note in said) == 2
    assert not [note for note in said if note.startswith(("Drains the chat pod", "Ended the chat pod"))]


@pytest.mark.usefixtures("machine")
@pytest.mark.slow
async def test_it_is_noticed_and_nothing_wrong_is_done(
    api: Api, helm: Helm, kubectl: Kubectl, namespaces: Namespaces
) -> None:
    other = Kubectl(namespaces.make())
    blind_to_pods, blind_to_clusters = Chat(api, kubectl), Chat(api, other)
    with operating_through_proxy(helm, kubectl, [kubectl.namespace, other.namespace]) as (_, proxy):
        for chat in (blind_to_pods, blind_to_clusters):
            chat.apply(chatPods={"replicas": 1, "connectionsPerPod": 100}, rebalance={"tolerance": 10})
        async with asyncio.TaskGroup() as group:
            group.create_task(grows_in_spite(blind_to_pods, proxy, "pods", SILENCE_S))
            group.create_task(grows_in_spite(blind_to_clusters, proxy, "chatclusters", RELISTED_S))
