"""Pods that no node takes: they count as nothing, whether they are more of the same or of a new revision, and the
status says so."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, Object, condition, is_ready
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.room import Room
from cluster.kit.talk import talking

TOO_MUCH = {"requests": {"cpu": "1000"}}
"""No node is so large."""
TOLD_S = 30.0
REPLACED_S = 5.0


@pytest.fixture
def chat(api: Api, operator: Operator) -> Chat:
    return Chat(api, operator.kubectl)


def pods(room: Room, **more: object) -> Object:
    """How many, the tests say by the subresource."""
    return {"connectionsPerPod": 100, "pod": {**room.pod, **more}}


async def test_more_than_there_is_room_for_are_no_capacity(chat: Chat, room: Room) -> None:
    chat.apply(chatPods=pods(room))
    before = await chat.settled(2)
    async with talking(chat.url) as talk:
        was = talk.moves()
        room.take()
        await chat.scale(4)
        degraded = await chat.reason("Degraded", "PodsUnschedulable", TOLD_S)
        assert "node" in degraded["message"]
        assert "Add nodes" in degraded["message"]
        progressing = await chat.reason("Progressing", "ScalingUp")
        assert "2 of 4 are ready" in progressing["message"]
        found = await counted(chat, desired=4, replicas=4, ready=2)
        assert condition(found, "Available") == "True"

        # Two fewer are those two: nobody who serves people goes for what serves nobody.
        await chat.scale(2)
        assert (await chat.settled(2)).keys() == before.keys()
        await chat.reason("Degraded", "AllWell")
        await talk.goes_on(20)
        assert talk.moves() == was
        assert not talk.losses()
    assert not [note for note in chat.events() if note.startswith("Drains")]


async def test_a_revision_that_fits_nowhere_takes_nobodys_place_and_others_are_replaced(
    chat: Chat, room: Room
) -> None:
    chat.apply(chatPods=pods(room))
    before = await chat.settled(2)
    async with talking(chat.url) as talk:
        was = talk.moves()
        chat.apply(chatPods=pods(room, resources=TOO_MUCH))
        degraded = await chat.reason("Degraded", "PodsUnschedulable", TOLD_S)
        assert "cpu" in degraded["message"]
        await chat.reason("Progressing", "RollingOut")
        found = await counted(chat, desired=2, replicas=3, ready=2)
        assert condition(found, "Available") == "True"
        new = next(one for one in found["status"]["revisions"] if one["current"])
        assert (new["pods"], new["ready"], new["failed"]) == (1, 0, False)
        assert talk.moves() == was

        # One that is lost meanwhile is replaced by one that works.
        lost = min(before)
        chat.kubectl("delete", "pod", lost, "--force", "--grace-period=0")
        after = await chat.chat_pods_until(
            lambda seen: sum(map(is_ready, seen.values())) == 2, REPLACED_S + TOLD_S, "two serve again"
        )
        served = {name for name, pod in after.items() if is_ready(pod)}
        await talk.goes_on(20)

        # Fewer are wanted: what waits takes the place of none that serves.
        was, losses = talk.moves(), talk.losses()
        await chat.scale(1)
        left = await chat.chat_pods_until(
            lambda seen: len(served & seen.keys()) == 1, 30, "one of those that serve goes"
        )
        await counted(chat, desired=1, replicas=2, ready=1)
        await talk.goes_on(20)
        (stays,) = served & left.keys()
        assert len(talk.on(stays)) == len(talk.devices)
        assert max(talk.moved(was)) <= 1

        # Taken back, it is as before, and nobody notices.
        was = talk.moves()
        chat.apply(chatPods=pods(room))
        assert (await chat.settled(1)).keys() == {stays}
        await talk.goes_on(20)
        assert talk.moves() == was
        assert talk.losses() == losses


async def counted(chat: Chat, **counts: int) -> Object:
    """Once the status says so: `replicas` are all, and `ready` those that serve."""

    def holds(found: Object) -> bool:
        said = found["status"]["chatPods"]
        return {name: said[name] for name in counts} == counts

    return await chat.until(holds, 20 * SLOW, f"{counts}")
