"""Several ChatClusters in one namespace and in several, and an operator that may see only some of them."""

from __future__ import annotations

from cluster.kit.api import Api
from cluster.kit.chat import Chat, operating, resource
from cluster.kit.kubectl import Failed, Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.kit.talk import talking


async def test_nothing_of_one_reaches_another(
    api: Api, helm: Helm, kubectl: Kubectl, namespaces: Namespaces
) -> None:
    other = Kubectl(namespaces.make())
    foreign = Kubectl(namespaces.make())
    small = {"chatPods": {"replicas": 1, "connectionsPerPod": 100}}
    chats = [Chat(api, kubectl, "talk"), Chat(api, kubectl, "town"), Chat(api, other, "talk")]
    with operating(helm, kubectl, [kubectl.namespace, other.namespace]):
        for chat in chats:
            chat.apply(**small)
        foreign.apply(resource("talk", **small))
        for chat in chats:
            await chat.settled(1, 120)
        async with talking(chats[0].url, people=4, channels=2) as first:
            async with talking(chats[1].url, people=4, channels=2, seed=2) as second:
                await first.goes_on(20)
                await second.goes_on(20)
            kubectl("delete", "chat", "town", "--wait=false")
            await first.goes_on(50)
            assert not any(device.recorder.losses for device in first.devices)
        keys = {
            chat.kubectl.get("secret", f"{chat.name}-keys")["data"]["keys.json"]
            for chat in (chats[0], chats[2])
        }
        assert len(keys) == 2
        # Nobody has looked after the one in a namespace that was not named.
        assert not foreign.get("chat", "talk").get("status")
        account = f"system:serviceaccount:{kubectl.namespace}:operator-chatcluster"
        for verb, what in (("list", "pods"), ("get", "secrets")):
            try:
                said = foreign("auth", "can-i", verb, what, f"--as={account}")
            except Failed as refused:
                said = refused.said
            assert "no" in said
