"""`kubectl chat` on a real cluster."""

from __future__ import annotations

import json

import pytest

from chatoperator.manifests.names import CONDEMNED, REBALANCE
from cluster.kit.api import is_ready
from cluster.kit.chat import Chat
from cluster.kit.kubectl import Kubectl
from cluster.kit.plugin import Plugin


@pytest.fixture
def plugin(chat: Chat) -> Plugin:
    return Plugin(chat.namespace)


async def test_a_cluster_can_be_looked_at(chat: Chat, plugin: Plugin) -> None:
    pods = await chat.chat_pods()
    await chat.reason("DeliveryHealthy", "Delivering")
    nodes = {pod["spec"]["nodeName"] for pod in pods.values()}

    picture = plugin("status")
    assert picture.startswith("talk Running")
    assert all(name in picture for name in [*pods, *nodes])
    assert "2 of 2 chat pods ready" in picture

    told = plugin.json("status")
    looks = {pod["name"]: pod for pod in told["pods"]}
    assert {looks[name]["state"] for name in pods} == {"ready"}
    # The probe has a connection to each.
    assert all(looks[name]["numbers"]["connections"] >= 1 for name in pods)

    assert "talk" in plugin("status", "--all-namespaces")
    assert {row["pod"] for row in plugin.json("top")} == pods.keys()
    assert all(name in plugin("top") for name in pods)

    victim = next(iter(pods))
    told = plugin.json("explain", victim)
    assert told["seats"] is True
    assert sorted(told["order"]) == sorted(pods)
    assert any("Started the chat pod" in one["text"] for one in told["told"])
    assert "new clients    yes" in plugin("explain", victim)

    lines = [json.loads(line) for line in plugin("logs", "--json").splitlines()]
    assert {line["pod"] for line in lines} >= pods.keys()
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


async def test_a_pod_that_is_drained_is_replaced_first(chat: Chat, plugin: Plugin) -> None:
    victim = min(await chat.chat_pods())
    assert "will be replaced" in plugin("drain", victim)
    after = await chat.chat_pods_until(
        lambda found: victim not in found and sum(map(is_ready, found.values())) == 2,
        60,
        f"{victim} replaced",
    )
    assert len(after) == 2
    assert any(f"Drains the chat pod {victim}: was asked to go" in note for note in chat.events())


async def test_a_drain_is_taken_back_and_rebalancing_asked_for(chat: Chat, plugin: Plugin) -> None:
    kubectl = chat.kubectl
    chat.apply(pause=True)
    await chat.reason("Paused", "Paused")
    pod = min(await chat.chat_pods())
    plugin("drain", pod)
    assert CONDEMNED in kubectl.get("pod", pod)["metadata"]["annotations"]
    assert plugin.json("status")["pods"][0]["condemned"] is True
    plugin("undrain", pod)
    assert CONDEMNED not in kubectl.get("pod", pod)["metadata"]["annotations"]
    assert plugin("rebalance") == "talk will be rebalanced\n"
    assert REBALANCE in kubectl.get("chat", "talk")["metadata"]["annotations"]


async def test_people_can_be_sent_in_while_a_pod_dies(chat: Chat, plugin: Plugin) -> None:
    said = plugin("drill", "--users=8", "--rate=10", "--duration=20", "--kill", timeout_s=240)
    assert "without warning" in said
    assert "All promises kept" in said
    chat.kubectl(
        "wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=chatcluster-drill", "--timeout=30s"
    )


def test_what_is_not_there_is_said_in_one_line(kubectl: Kubectl, namespace: str) -> None:
    plugin = Plugin(namespace)
    assert plugin("status", code=1) == (
        f"there is no ChatCluster in the namespace {namespace}: name another with --namespace\n"
    )
    assert "there is no ChatCluster other" in plugin("status", "other", code=1)
    assert f"there is no pod other in the namespace {namespace}" in plugin("explain", "other", code=1)
    assert "no way to a Kubernetes by" in plugin("status", "--kubeconfig=/nowhere", code=1)
