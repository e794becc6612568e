"""The operator that works is killed in the middle of a drain: the one that stands by finishes it, and does nothing a
second time."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, Object, eventually
from cluster.kit.chat import SLOW, Chat, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.registry import registry_of
from cluster.kit.talk import talking

DEADLINE_S = 50.0
PEOPLE, RATE = 16, 0.1
"""Half of the people are on the pod that goes. They are told within 60% of the deadline, as the rate asks for longer:
one every four seconds, and that is time enough for another to lead."""


@pytest.mark.slow
async def test_another_finishes_it(api: Api, helm: Helm, kubectl: Kubectl, faults: Faults) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl) as operator:
        chat.apply(drain={"deadlineSeconds": DEADLINE_S, "ratePerSecond": RATE})
        before = await chat.settled(2)
        async with talking(chat.url, people=PEOPLE) as talk:
            was = talk.moves()
            there = {pod: [device.client.pod == pod for device in talk.devices] for pod in before}
            await chat.scale(1)
            draining = await chat.chat_pods_until(
                lambda pods: any(map(drains, pods.values())), 30, "a drain has begun"
            )
            (going,) = [name for name, pod in draining.items() if drains(pod)]
            since = drains(draining[going])
            (stays,) = before.keys() - {going}

            async def under_way() -> bool:
                return sum(talk.moved(was)) >= 1

            await eventually(under_way, 10 * SLOW, "the first have moved")
            leader = operator.leader()
            faults.kill(kubectl.namespace, leader)
            await operator.another_leads(leader)
            after = await chat.chat_pods_until(lambda _: True, 10)
            assert drains(after[going]) == since, "its deadline is what it was"
            assert talk.on(going), "there is something left to do"

            assert (await chat.settled(1, 60)).keys() == {stays}
            await talk.goes_on(20)
            assert len(talk.on(stays)) == len(talk.devices)
            assert talk.moved(was) == [int(was_there) for was_there in there[going]]
            assert not talk.losses()
        async with registry_of(chat) as registry:

            async def nothing_of_it() -> bool:
                return await registry.names() == {stays} and not (await registry.policy())["excluded"]

            await eventually(nothing_of_it, 10, "the registry knows only what there is")
        said = chat.events()
        assert said.count(f"Drains the chat pod {going}: scaled down") == 1
        assert sum(note.startswith(f"Ended the chat pod {going}") for note in said) == 1
        assert [note for note in said if stays in note] == [f"Started the chat pod {stays}: too few pods"]


def drains(pod: Object) -> str:
    """Since when; "" if it does not."""
    return str((pod["metadata"].get("annotations") or {}).get("chatcluster.dev/drain", ""))
