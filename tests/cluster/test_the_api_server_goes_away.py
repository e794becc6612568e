"""A minute without an API server, and one that says nothing: the chat does not notice, the operator catches up."""

from __future__ import annotations

import asyncio

import pytest

from cluster.kit.api import Api
from cluster.kit.chat import Chat, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.talk import talking

pytestmark = pytest.mark.alone

AWAY_S = 60


@pytest.mark.parametrize("how", ["away", "silent"])
@pytest.mark.slow
async def test_people_talk_on_and_nothing_is_undone(
    api: Api, helm: Helm, kubectl: Kubectl, faults: Faults, how: str
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply()
        before = await chat.settled(2)
        async with talking(chat.url) as talk:
            with faults.api_server_away() if how == "away" else faults.api_server_silent():
                for _ in range(AWAY_S // 10):
                    await asyncio.sleep(10)
                    await talk.goes_on(5)
            assert set(await chat.settled(2, 120)) == set(before)
            await chat.scale(3)
            await chat.settled(3, 90)
            assert not any(device.recorder.losses for device in talk.devices)
