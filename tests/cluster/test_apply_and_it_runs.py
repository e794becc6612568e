"""From `kubectl apply` to people who talk."""

from __future__ import annotations

from cluster.kit.api import Api
from cluster.kit.chat import Chat, operating
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.talk import talking

KINDS = (
    "service",
    "configmap",
    "secret",
    "deployment",
    "poddisruptionbudget",
    "networkpolicy",
    "serviceaccount",
)


async def test_applied_it_is_available_and_people_talk(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply(exposure={"host": "chat.example.com", "ingress": {}})
        await chat.available()
        pods = await chat.settled(2)
        made = {kind: [each["metadata"]["name"] for each in kubectl.get(kind)["items"]] for kind in KINDS}
        assert all(any(name.startswith("talk-") for name in names) for names in made.values()), made
        ways = {each["metadata"]["name"]: each for each in kubectl.get("ingress")["items"]}
        paths = {
            way["path"]
            for each in ways.values()
            for rule in each["spec"]["rules"]
            for way in rule["http"]["paths"]
        }
        assert {f"/pods/{name}/v1/socket" for name in pods} <= paths
        assert "/" in paths
        assert "ConfigMap" not in "".join(chat.events())


async def test_people_talk_through_the_service(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl):
        chat.apply()
        await chat.settled(2)
        async with talking(chat.url) as talk:
            await talk.goes_on(50)
        await chat.reason("DeliveryHealthy", "Delivering")
