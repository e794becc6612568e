"""Pods that were lost come back empty: who has more than their share of people gives them up, a few at a time, each
of them moves once, and then there is rest."""

from __future__ import annotations

import pytest

from chatclient.drill.crowd import Device
from cluster.kit.api import Api, Objects, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.faults import Faults
from cluster.kit.room import Room
from cluster.kit.talk import MESSAGES_PER_S, Talk, talking

PODS, PEOPLE = 3, 36
TOLERANCE, RATE = 1.25, 5.0
PROBE = 1
"""The probe's connection to each pod."""
BACK_S = 15.0
"""Until all people of killed pods are connected elsewhere: a lease, and their own patience."""
EVENED_S = 3.0 + 1.0 + PEOPLE / RATE + 2.0
"""What comes back by itself is waited for; the operator looks; they are told; they move."""
ROUND_S = 12.0
"""As long as a round of rebalancing may take."""


@pytest.mark.slow
async def test_survivors_give_up_what_is_above_their_share(
    api: Api, operator: Operator, room: Room, faults: Faults
) -> None:
    chat = Chat(api, operator.kubectl)
    chat.apply(
        chatPods={"replicas": PODS, "connectionsPerPod": 100, "pod": room.pod},
        rebalance={"tolerance": TOLERANCE, "cooldownSeconds": 1, "ratePerSecond": RATE},
    )
    before = await chat.settled(PODS)
    async with talking(chat.url, people=PEOPLE, channels=12) as talk:
        assert most(talk, before) <= share(TOLERANCE), "discovery keeps them even"
        survivor = min(before)
        room.take()
        for name in before.keys() - {survivor}:
            faults.kill(chat.namespace, name)
        await eventually(lambda: all_on(talk, survivor), BACK_S * SLOW, "all on the one that is left")
        room.give()
        was, losses = talk.moves(), talk.losses()
        after = await chat.settled(PODS, 90)

        async def even() -> bool:
            return most(talk, after) <= share(TOLERANCE)

        await eventually(even, EVENED_S * SLOW, "nobody has more than the tolerance")
        # For two rounds and more: whoever moved stays, and nobody else is moved.
        await talk.goes_on(int(2 * ROUND_S * MESSAGES_PER_S))
        assert most(talk, after) <= share(TOLERANCE)
        assert max(talk.moved(was)) == 1
        assert PEOPLE - share(TOLERANCE) <= sum(talk.moved(was)) <= PEOPLE - PEOPLE // PODS + 1
        assert talk.losses() == losses
        paced(talk.devices)
        (told,) = [note for note in chat.events() if " clients: " in note]
        assert told.startswith(f"The chat pod {survivor} moves ")


def share(tolerance: float) -> float:
    """People that a pod may have besides its connection of the probe."""
    return (PEOPLE / PODS + PROBE) * tolerance - PROBE


def most(talk: Talk, pods: Objects) -> int:
    counts = [len(talk.on(pod)) for pod in pods]
    return max(counts) if sum(counts) == len(talk.devices) else len(talk.devices)


async def all_on(talk: Talk, pod: str) -> bool:
    return len(talk.on(pod)) == len(talk.devices) and all(device.client.in_sync for device in talk.devices)


def paced(devices: list[Device]) -> None:
    """They were told one after the other, as fast as the resource allows and no faster: in no second more."""
    ups = [(at, up) for device in devices for at, up in device.recorder.ups if up.reason == "rebalancing"]
    assert all(up.moved for _, up in ups), "the old connection was open until the new one was in sync"
    told = sorted(at - up.took_s for at, up in ups)
    took_s = told[-1] - told[0]
    assert took_s >= (len(told) - 1) / RATE * 0.8, f"{len(told)} were told within {took_s:.1f} s"
