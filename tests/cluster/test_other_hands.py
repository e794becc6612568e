"""Another tool that applies the same again and again, and hands that change what is ours."""

from __future__ import annotations

from cluster.kit.api import Api, eventually
from cluster.kit.chat import Chat, Operator, resource

TIMES = 10


async def test_gitops_sees_no_drift_and_causes_none(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply()
    await chat.settled(2)
    before = kubectl.get("chat", "talk")["metadata"]
    children = kubectl.get("deployments,services,configmaps")["items"]
    manifest = {**resource(), "metadata": {"name": "talk"}}
    path = f"{chat.path}"
    for _ in range(TIMES):
        await api.apply(path, manifest, "gitops")
    after = (await api.get(path))["metadata"]  # kubectl leaves managedFields out
    assert after["generation"] == before["generation"]
    managers = {each["manager"] for each in after["managedFields"] if each.get("subresource") != "status"}
    assert "chatcluster-operator" not in managers
    again = kubectl.get("deployments,services,configmaps")["items"]
    assert [each["metadata"].get("generation") for each in again] == [
        each["metadata"].get("generation") for each in children
    ]


async def test_what_a_hand_has_changed_is_put_back_and_told(api: Api, operator: Operator) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply()
    await chat.settled(2)
    kubectl("scale", "deployment", "talk-api", "--replicas=3")
    kubectl("delete", "networkpolicy", "--all")
    kubectl("label", "service", "talk-api", "app.kubernetes.io/managed-by=me", "--overwrite")

    async def put_back() -> bool:
        replicas = kubectl.get("deployment", "talk-api")["spec"]["replicas"]
        policies = kubectl.get("networkpolicies")["items"]
        labels = kubectl.get("service", "talk-api")["metadata"]["labels"]
        return replicas == 1 and bool(policies) and labels["app.kubernetes.io/managed-by"] != "me"

    await eventually(put_back, 30, "as the resource says")

    async def told() -> bool:
        return any("Deployment talk-api had been changed" in note for note in chat.events())

    await eventually(told, 10, "an event")
