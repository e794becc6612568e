"""A number of connections that swings round a threshold is one decision, and not many."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api
from cluster.kit.chat import Chat, Operator
from cluster.kit.talk import MESSAGES_PER_S, Talk, talking
from cluster.kit.visitors import visiting

PER_POD, TARGET = 12, 0.5
"""Six connections each, one of which the probe has to every pod."""
LOOK_S = 5.0
"""Between two looks of the operator at rest."""
WINDOW_S = 20.0
"""Longer than from the last look at many people to the first at many again."""
SWINGS = 3


@pytest.mark.slow
async def test_a_swing_round_the_threshold_is_one_decision(api: Api, operator: Operator) -> None:
    chat = Chat(api, operator.kubectl)
    scaling = {
        "min": 1,
        "max": 3,
        "targetUtilisation": TARGET,
        "scaleDownStabilisationSeconds": WINDOW_S,
    }
    chat.apply(chatPods={"connectionsPerPod": PER_POD, "autoscaling": scaling})
    await chat.settled(1, 90)
    # Four people and the probe are five: one pod. With three more, two. Four on two pods are one too few for two.
    async with talking(chat.url, people=4, channels=3) as talk, visiting(chat.url, 3) as visitors:
        await visitors.come()
        two = await chat.settled(2, 60)
        first = chat.last_scaling()
        assert (first["from"], first["to"]) == (1, 2)
        for _ in range(SWINGS):
            await for_some_time(talk, LOOK_S + 1)
            await visitors.go()
            await for_some_time(talk, LOOK_S + 1)
            await visitors.come()
        assert chat.last_scaling() == first
        assert (await chat.settled(2)).keys() == two.keys()
        await visitors.go()
        # Now fewer is enough for the whole of the window.
        await chat.settled(1, WINDOW_S + 60)
        last = chat.last_scaling()
        assert (last["from"], last["to"]) == (2, 1)
        assert not talk.losses()
    said = [
        note for note in chat.events() if note.startswith(("Started the chat pod", "Drains", "Took back"))
    ]
    assert [note.split()[0] for note in said] == ["Started", "Started", "Drains"], said


async def for_some_time(talk: Talk, seconds: float) -> None:
    """By the messages of people."""
    await talk.goes_on(int(seconds * MESSAGES_PER_S))
