"""Its collections and indexes are made at first contact and before a new version runs, and waited for while it is
down. The server is mongo-java-server: one that shards is tested outside Kubernetes."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, is_ready
from cluster.kit.chat import Chat, Operator
from cluster.kit.faults import Faults
from cluster.kit.outside import Outside, url_from
from cluster.kit.talk import talking
from cluster.machine.images import PRODUCT, PRODUCT_TAG

NEXT = f"{PRODUCT}:next"
"""The same software under another name: a new version as far as anybody can see."""


@pytest.mark.slow
async def test_one_that_is_down_at_first_and_again_at_an_upgrade(
    api: Api, operator: Operator, faults: Faults
) -> None:
    kubectl = operator.kubectl
    chat, outside = Chat(api, kubectl), Outside(api, kubectl)
    outside.services("mongodb")
    outside.secret(outside.urls())
    chat.apply(postgresql=None, mongodb=url_from("mongodb"))
    away = await chat.reason("StorageReady", "StoreUnreachable")
    assert "Look at the store" in away["message"]
    assert not await chat.chat_pods()
    assert not [each for each in kubectl.get("deployments")["items"] if _is_of(each, "talk", "api")]

    await outside.start("mongodb")
    before = await chat.settled(2, 120)
    await chat.reason("StorageReady", "SchemaReady")
    async with talking(chat.url, people=4, channels=2) as talk:
        await talk.goes_on(10)

    faults.tag(f"{PRODUCT}:{PRODUCT_TAG}", NEXT)
    with faults.frozen(kubectl.namespace, "mongodb"):
        chat.apply(postgresql=None, mongodb=url_from("mongodb"), image=NEXT)
        await chat.reason("StorageReady", "StoreUnreachable")
        seen = await chat.chat_pods_until(lambda _: True, 10)
        assert seen.keys() == before.keys()
        assert all(is_ready(pod) for pod in seen.values())
    after = await chat.settled(2, 180)
    assert not set(before) & set(after)
    assert {pod["spec"]["containers"][0]["image"] for pod in after.values()} == {NEXT}
    # Its own step had been done before any pod of it was made.
    (job,) = [each for each in kubectl.get("jobs")["items"] if _is_of(each, "talk", "schema")]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == NEXT
    made_at = min(pod["metadata"]["creationTimestamp"] for pod in after.values())
    assert job["status"]["completionTime"] <= made_at
    async with talking(chat.url, people=4, channels=2) as talk:
        await talk.goes_on(10)
    kubectl("delete", "chat", "talk", "--wait=false")


async def test_one_for_development(api: Api, operator: Operator) -> None:
    chat = Chat(api, operator.kubectl, "trial")
    small = {"replicas": 1, "connectionsPerPod": 100}
    chat.apply(postgresql=None, mongodb={"development": True}, chatPods=small)
    await chat.settled(1, 90)
    told = await chat.reason("StorageReady", "DevelopmentStore")
    assert "not for production" in told["message"]
    async with talking(chat.url, people=4, channels=2) as talk:
        await talk.goes_on(10)


def _is_of(found: dict[str, dict[str, dict[str, str]]], cluster: str, component: str) -> bool:
    labels = found["metadata"].get("labels") or {}
    wanted = (cluster, component)
    return (labels.get("chatcluster.dev/cluster"), labels.get("app.kubernetes.io/component")) == wanted
