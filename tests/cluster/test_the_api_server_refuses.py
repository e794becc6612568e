"""The API server refuses for a while, by conflicts and as too busy: nothing wrong is done, all is caught up on,
and the operator asks no more often than it may. People do not notice."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api
from cluster.kit.apiproxy import operating_through_proxy
from cluster.kit.chat import Chat
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.talk import MESSAGES_PER_S, Talk, talking

REFUSED_S = 10.0
RETRY_AFTER_S = 3
CONFLICTS_PER_MIN = 400.0
"""A look a second, a few requests each."""
BUSY_PER_MIN = 60.0
LEASES = "leases"


async def for_a_while(talk: Talk) -> None:
    """People talk on, which takes them some time."""
    await talk.goes_on(round(REFUSED_S * MESSAGES_PER_S))


def nobody_noticed(talk: Talk, moves: int) -> None:
    assert not any(device.recorder.losses for device in talk.devices)
    assert max(device.client.moves for device in talk.devices) <= moves


def told(chat: Chat) -> tuple[int, int, int]:
    """How many chat pods were started, drained and ended."""
    said = chat.events()
    actions = ("Started the chat pod", "Drains the chat pod", "Ended the chat pod")
    started, drained, ended = (sum(note.startswith(action) for note in said) for action in actions)
    return started, drained, ended


@pytest.mark.usefixtures("machine")
@pytest.mark.slow
async def test_nothing_wrong_is_done_and_it_catches_up(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating_through_proxy(helm, kubectl) as (operator, proxy):
        chat.apply(drain={"deadlineSeconds": 10}, rebalance={"tolerance": 10})
        two = await chat.settled(2)
        async with talking(chat.url) as talk:
            with proxy.refusing(409, writes_only=True, but=LEASES) as refusal:
                await chat.scale(3)
                await for_a_while(talk)
                assert refusal.asked
                assert refusal.per_minute() < CONFLICTS_PER_MIN
                assert (await chat.chat_pods()).keys() == two.keys()
            three = await chat.settled(3)
            assert two.keys() < three.keys()
            nobody_noticed(talk, moves=0)
            assert told(chat) == (3, 0, 0)

            leader = operator.leader()
            with proxy.refusing(429, retry_after_s=RETRY_AFTER_S, but=LEASES) as refusal:
                await chat.scale(2)
                await for_a_while(talk)
                assert min(refusal.pauses_s()) >= RETRY_AFTER_S
                assert refusal.per_minute() < BUSY_PER_MIN
                assert (await chat.chat_pods()).keys() == three.keys()
            left = await chat.settled(2)
            assert left.keys() < three.keys()
            assert operator.leader() == leader
            assert told(chat) == (3, 1, 1)

            with proxy.refusing(429, retry_after_s=RETRY_AFTER_S) as refusal:
                await for_a_while(talk)
                assert refusal.per_minute() < BUSY_PER_MIN
            await chat.scale(3)
            # Without its Lease the operator ends; it is started again, if need be with Kubernetes' back-off.
            assert left.keys() < (await chat.settled(3, 90)).keys()
            await talk.goes_on(20)
            nobody_noticed(talk, moves=1)
        assert told(chat) == (4, 1, 1)
