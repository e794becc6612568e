"""A scale-down of pods that are not alike: those go that `kubectl chat explain` names, and people move once."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from cluster.kit.api import Api, Objects, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.plugin import Plugin
from cluster.kit.registry import registry_of
from cluster.kit.talk import Talk, talking

SETTINGS = {
    "chatPods": {"connectionsPerPod": 100},  # how many, others say by the subresource
    "drain": {"deadlineSeconds": 10, "ratePerSecond": 100},
    "rebalance": {"tolerance": 10},  # so that they stay uneven
}


@pytest.fixture
def chat(api: Api, operator: Operator) -> Chat:
    return Chat(api, operator.kubectl)


async def test_those_with_fewest_people_go_and_not_the_youngest(chat: Chat) -> None:
    plugin = Plugin(chat.namespace)
    chat.apply(**SETTINGS | {"chatPods": {"connectionsPerPod": 100, "replicas": 1}})
    (oldest,) = await chat.settled(1)
    async with AsyncExitStack() as stack:
        # Discovery fills the pod that came last until it is as full as the others.
        few = await stack.enter_async_context(talking(chat.url, people=4, channels=3, rate=4, seed=1))
        async with talking(chat.url, people=10, channels=3, rate=4, seed=2):
            (fullest,) = await one_more(chat, {oldest})
            most = await stack.enter_async_context(talking(chat.url, people=12, channels=4, rate=4, seed=3))
            (youngest,) = await one_more(chat, {oldest, fullest})
            more = await stack.enter_async_context(talking(chat.url, people=7, channels=3, rate=4, seed=4))
        talks = {oldest: few, youngest: more, fullest: most}
        assert {pod: len(talk.on(pod)) for pod, talk in talks.items()} == {
            oldest: 4,
            youngest: 7,
            fullest: 12,
        }

        await told_that_they_left(chat, oldest, len(few.devices))
        told = plugin.json("explain", oldest)
        assert (told["place"], told["order"]) == (1, [oldest, youngest, fullest])
        assert any(f"before {youngest}: fewer connections" in why for why in told["because"])
        was = {pod: talk.moves() for pod, talk in talks.items()}
        chat.kubectl("scale", "chat", "talk", "--replicas=1")
        assert set(await chat.settled(1)) == {fullest}
        for pod, talk in talks.items():
            await talk.goes_on(10)
            assert len(talk.on(fullest)) == len(talk.devices)
            assert talk.moved(was[pod]) == [int(pod != fullest)] * len(talk.devices)
            assert before_it_closed(talk)
    drained = [note for note in chat.events() if note.startswith("Drains the chat pod")]
    assert drained == [f"Drains the chat pod {pod}: scaled down" for pod in (oldest, youngest)]


async def test_who_is_to_go_anyway_goes_first_and_is_not_replaced(chat: Chat) -> None:
    plugin = Plugin(chat.namespace)
    chat.apply(**SETTINGS)
    await chat.scale(3)
    before = await chat.settled(3)
    async with talking(chat.url, people=9, channels=4) as talk:
        counts = {pod: len(talk.on(pod)) for pod in before}
        asked = max(before, key=lambda pod: counts[pod])
        assert counts[asked] >= 3
        # At once: by itself it would be replaced first.
        chat.apply(**SETTINGS, pause=True)
        await chat.reason("Paused", "Paused")
        plugin("drain", asked)
        await chat.scale(2)
        assert plugin.json("explain", asked)["order"][0] == asked
        was, there = talk.moves(), [device.client.pod == asked for device in talk.devices]
        chat.apply(**SETTINGS)
        assert set(await chat.settled(2)) == set(before) - {asked}
        await talk.goes_on(20)
        assert talk.moved(was) == [int(was_there) for was_there in there]
        assert before_it_closed(talk)
    assert f"Drains the chat pod {asked}: was asked to go" in chat.events()


async def one_more(chat: Chat, before: set[str]) -> Objects:
    """Another pod, with nobody yet."""
    await chat.scale(len(before) + 1)
    after = await chat.settled(len(before) + 1)
    return {name: pod for name, pod in after.items() if name not in before}


async def told_that_they_left(chat: Chat, pod: str, people: int) -> None:
    """In the registry, which the operator counts by. Besides people there is the probe, now and then twice."""
    async with registry_of(chat) as registry:

        async def counted() -> bool:
            return int((await registry.pods())[pod]["connections"]) <= people + 2

        await eventually(counted, 5 * SLOW, "those who left are not counted any more")


def before_it_closed(talk: Talk) -> bool:
    """Whoever moved had the new connection first."""
    return not talk.losses() and all(
        up.moved for device in talk.devices for _, up in device.recorder.ups if up.from_pod is not None
    )
