"""Pods that have to go when no node has room for others in their place: nothing waits for ever. People move to those
that are left, or are told in time, and the status says what is missing."""

from __future__ import annotations

import time

import pytest

from chatkernel.errors import Close
from cluster.kit.api import Api, eventually, is_ready
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.plugin import Plugin
from cluster.kit.room import Room
from cluster.kit.talk import talking

pytestmark = pytest.mark.slow

DEADLINE_S = 8.0
GRACE_S = 30.0
BUDGET_S = 60.0
"""Kubernetes counts the pods of a new kind of owner from about 30 s after its definition was made."""
PATIENCE_S = 10.0
"""A pod that was asked to go waits for a successor at most this long, or as long as a drain may take."""


@pytest.fixture
def chat(api: Api, operator: Operator, room: Room) -> Chat:
    one = Chat(api, operator.kubectl)
    one.apply(
        chatPods={
            "connectionsPerPod": 100,
            "terminationGracePeriodSeconds": int(GRACE_S),
            "pod": room.pod,
        },
        drain={"deadlineSeconds": DEADLINE_S},
    )
    return one


async def evict(api: Api, chat: Chat, pod: str) -> float:
    """Once the budget knows the pods; when that was."""
    await eventually(lambda: api.evicted(chat.namespace, pod), BUDGET_S * SLOW, f"{pod} may be evicted")
    return time.monotonic()


async def test_from_an_evicted_pod_people_move_to_those_that_are_left(
    chat: Chat, api: Api, room: Room
) -> None:
    before = await chat.settled(2)
    going, staying = sorted(before)
    async with talking(chat.url) as talk:
        was, there = talk.moves(), [device.client.pod == going for device in talk.devices]
        assert any(there)
        room.take()
        began = await evict(api, chat, going)
        await chat.chat_pods_until(lambda pods: going not in pods, GRACE_S, f"{going} has ended")
        assert time.monotonic() - began < GRACE_S
        await talk.goes_on(20)
        assert len(talk.on(staying)) == len(talk.devices)
        assert talk.moved(was) == [int(was_there) for was_there in there]
        assert not talk.losses()
        await chat.reason("Degraded", "PodsUnschedulable")
        available = await chat.reason("Available", "TooFewReadyPods")
        assert available["status"] == "True"
        assert "1 of 2 chat pods" in available["message"]
        room.give()
        await chat.settled(2)
    await chat.reason("Degraded", "AllWell")


async def test_from_the_only_pod_people_are_told_in_time_and_come_back_when_there_is_room(
    chat: Chat, api: Api, room: Room
) -> None:
    await chat.settled(2)
    await chat.scale(1)
    try:
        (only,) = await chat.settled(1)
        async with talking(chat.url) as talk:
            room.take()
            began = await evict(api, chat, only)

            async def all_told() -> bool:
                return not talk.on(only)

            await eventually(all_told, DEADLINE_S * SLOW, "everybody has left")
            for device in talk.devices:
                (loss,) = device.recorder.losses
                assert (loss.code, loss.told) == (Close.MIGRATED, True)
                assert loss.at_s - began < DEADLINE_S * SLOW
            await chat.chat_pods_until(lambda pods: only not in pods, GRACE_S, f"{only} has ended")
            assert time.monotonic() - began < GRACE_S
            await chat.reason("Degraded", "PodsUnschedulable")
            available = await chat.reason("Available", "NoReadyPods")
            assert available["status"] == "False"
            room.give()
            (other,) = await chat.settled(1)
            await talk.goes_on(20)
            assert len(talk.on(other)) == len(talk.devices)
    finally:
        await chat.scale(2)


async def test_pods_that_were_asked_to_go_do_so_one_after_the_other(chat: Chat, room: Room) -> None:
    """As those of a node that is drained are, whose evictions the disruption budget would refuse for ever."""
    plugin = Plugin(chat.namespace)
    await chat.scale(3)
    try:
        before = await chat.settled(3)
        *asked, stays = sorted(before)
        async with talking(chat.url, people=9) as talk:
            was, there = talk.moves(), [device.client.pod in asked for device in talk.devices]
            assert any(there)
            room.take()
            for pod in asked:
                plugin("drain", pod)
            left = await chat.chat_pods_until(
                lambda pods: not pods.keys() & set(asked), PATIENCE_S + 2 * DEADLINE_S, "they are gone"
            )
            assert [name for name, pod in left.items() if is_ready(pod)] == [stays]
            await talk.goes_on(20)
            assert len(talk.on(stays)) == len(talk.devices)
            assert talk.moved(was) == [int(was_there) for was_there in there]
            assert not talk.losses()
            degraded = await chat.reason("Degraded", "PodsUnschedulable")
            assert "Add nodes" in degraded["message"]
            room.give()
            await chat.settled(3)
    finally:
        await chat.scale(2)
    said = chat.events()
    for pod in asked:
        assert f"Drains the chat pod {pod}: was asked to go, and no node has room for another" in said
