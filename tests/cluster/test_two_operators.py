"""Two replicas of the operator: one leads, and the other goes on when it is killed or frozen in mid-work."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api
from cluster.kit.chat import Chat, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.talk import talking


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.slow)])
async def test_another_goes_on_in_mid_rollout(
    api: Api, helm: Helm, kubectl: Kubectl, faults: Faults, how: str
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl) as operator:
        chat.apply(drain={"deadlineSeconds": 10})
        before = await chat.settled(2)
        async with talking(chat.url) as talk:
            chat.apply(chatPods={"replicas": 2, "connectionsPerPod": 101}, drain={"deadlineSeconds": 10})
            await chat.chat_pods_until(lambda pods: bool(set(pods) - set(before)), 30, "the rollout began")
            leader = operator.leader()
            if how == "killed":
                faults.kill(kubectl.namespace, leader)
                await operator.another_leads(leader)
            else:
                with faults.frozen(kubectl.namespace, leader):
                    await operator.another_leads(leader)
                    await talk.goes_on(20)
            after = await chat.settled(2, 180)
            await talk.goes_on(20)
            assert not talk.losses()
        assert not set(before) & set(after)
        said = chat.events()
        started = [note for note in said if note.startswith("Started the chat pod")]
        assert len(started) == len(set(started)) == 4
        assert sum(note.startswith("Ended the chat pod") for note in said) == 2
