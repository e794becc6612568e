"""`kubectl scale` and a client of `/scale`: 2, 5, 2 chat pods while people talk."""

from __future__ import annotations

from cluster.kit.api import Api
from cluster.kit.chat import Chat, Operator
from cluster.kit.talk import talking


async def test_up_and_down_while_people_talk(api: Api, operator: Operator) -> None:
    chat = Chat(api, operator.kubectl)
    chat.apply(drain={"deadlineSeconds": 10, "ratePerSecond": 100})
    first = await chat.settled(2)
    async with talking(chat.url) as talk:
        chat.kubectl("scale", "chat", "talk", "--replicas=5")
        more = await chat.settled(5, 90)
        assert set(first) < set(more)
        await talk.goes_on(20)
        before = talk.moves()
        await chat.scale(2)
        await chat.settled(2, 90)
        await talk.goes_on(20)
        # Each was told to move before its socket closed, and at most once.
        assert max(talk.moved(before)) <= 1
        assert not talk.losses()
    said = chat.events()
    assert sum("Drains the chat pod" in note for note in said) == 3
    assert sum("Ended the chat pod" in note for note in said) == 3


async def test_a_scale_down_that_is_taken_back_gives_the_drain_back(api: Api, operator: Operator) -> None:
    chat = Chat(api, operator.kubectl)
    # So slow that there is time to think again.
    chat.apply(drain={"deadlineSeconds": 50, "ratePerSecond": 0.1})
    before = await chat.settled(2)
    async with talking(chat.url, people=4, channels=2) as talk:
        await chat.scale(1)
        await chat.chat_pods_until(
            lambda pods: any("chatcluster.dev/drain" in _annotations(pod) for pod in pods.values()), 20
        )
        await chat.scale(2)
        after = await chat.settled(2)
        await talk.goes_on(20)
    assert set(after) == set(before)
    assert not any("chatcluster.dev/drain" in _annotations(pod) for pod in after.values())


def _annotations(pod: dict[str, object]) -> dict[str, str]:
    meta = pod["metadata"]
    assert isinstance(meta, dict)
    return meta.get("annotations") or {}
