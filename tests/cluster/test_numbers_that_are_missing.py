"""Connections decide how many chat pods there are; those of a pod are not to be had: no pod fewer for that."""

from __future__ import annotations

import asyncio

import pytest

from cluster.kit.api import Api, is_ready
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.faults import Faults
from cluster.kit.registry import RawRegistry, registry_of
from cluster.kit.talk import MESSAGES_PER_S, Talk, talking

DISTURBED_S = 15.0
"""For so long after a pod came or was lost nothing is decided by numbers."""
SILENT_S = 15.0
"""A pod that is not heard of for this long is replaced."""
DELETED_S = 6.0
"""Longer than between two looks of the operator, and less than that."""


@pytest.mark.slow
async def test_numbers_that_are_not_to_be_had_make_no_pod_fewer(
    api: Api, operator: Operator, faults: Faults
) -> None:
    chat = Chat(api, operator.kubectl)
    # Six connections each, the probe's included. Fewer pods at once: one look at too low a number would do.
    scaling = {"min": 1, "max": 3, "targetUtilisation": 0.5, "scaleDownStabilisationSeconds": 0}
    chat.apply(chatPods={"connectionsPerPod": 12, "autoscaling": scaling})
    await chat.settled(1, 90)
    async with talking(chat.url, people=8, channels=4) as talk:
        two = await chat.settled(2, 60)
        first = chat.last_scaling()
        assert (first["from"], first["to"]) == (1, 2)
        # Nearly all are on the pod that was there first. It was asked itself then, and had nobody.
        victim = max(two, key=lambda pod: len(talk.on(pod)))
        assert len(talk.on(victim)) >= 6
        await talk.goes_on(int(DISTURBED_S * MESSAGES_PER_S))
        async with registry_of(chat) as registry:
            await again_and_again(registry, victim, talk)
        assert chat.last_scaling() == first
        assert (await chat.settled(2)).keys() == two.keys()

        with faults.frozen(chat.namespace, victim):
            await chat.chat_pods_until(
                lambda pods: pods.keys() - two.keys() and not (victim in pods and is_ready(pods[victim])),
                SILENT_S * SLOW,
                "another in its place",
            )
            after = await chat.settled(2, 90)
        assert victim not in after
        await talk.goes_on(20)
        assert chat.last_scaling() == first
    assert not [note for note in chat.events() if "scaled down" in note and victim in note]


async def again_and_again(registry: RawRegistry, pod: str, talk: Talk) -> None:
    """Its entry is deleted, as often as it can be, while people talk."""

    over = asyncio.Event()

    async def delete() -> None:
        while not over.is_set():
            await registry.delete(pod)

    deleting = asyncio.create_task(delete())
    try:
        await talk.goes_on(int(DELETED_S * MESSAGES_PER_S))
    finally:
        over.set()
        await deleting
