"""A pod that takes connections and delivers nothing: found, taken out of discovery and replaced; and a version whose
pods are all so does not get through a rollout."""

from __future__ import annotations

import httpx
import pytest

from cluster.kit.api import Api, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.faulty import AT_FIRST, FAULTY, faulty_image, have
from cluster.kit.registry import registry_of
from cluster.kit.talk import talking
from cluster.machine.machine import Machine

FOUND_S = 15.0
PODS = {"replicas": 2, "connectionsPerPod": 100}


@pytest.fixture(scope="module")
def image(machine: Machine) -> str:
    machine.load([faulty_image()])
    return FAULTY


@pytest.fixture
async def chat(api: Api, operator: Operator, image: str) -> Chat:
    one = Chat(api, operator.kubectl)
    one.apply(image=image, chatPods=PODS)
    await one.settled(2)
    return one


async def test_a_pod_that_delivers_nothing_is_found_taken_out_and_replaced(
    chat: Chat, operator: Operator
) -> None:
    before = await chat.chat_pods()
    deaf = min(before)
    async with registry_of(chat) as registry:
        await chat.reason("DeliveryHealthy", "Delivering", 60)

        async def out() -> bool:
            return deaf in (await registry.policy())["excluded"]

        assert not await out()
        async with talking(chat.url) as talk:
            have(chat.kubectl, deaf, "deaf")
            await eventually(out, FOUND_S * SLOW, "it is out of discovery")
            await chat.reason("DeliveryHealthy", "NotDelivering")
            after = await chat.settled(2, 90)
            await talk.goes_on(20)
    assert deaf not in after
    assert set(before) - {deaf} <= set(after)
    assert any(f"Drains the chat pod {deaf}: does not deliver" in note for note in chat.events())
    await chat.reason("DeliveryHealthy", "Delivering")
    await measured(chat, operator)


async def measured(chat: Chat, operator: Operator) -> None:
    """How long messages take, and what did not arrive, are figures of the probe, the operator and the status."""
    status = chat.kubectl.get("chat", chat.name)["status"]["delivery"]
    assert 0 < status["p50Ms"] <= status["p99Ms"]
    probes = chat.kubectl.get("pods", "--selector=app.kubernetes.io/component=probe")["items"]
    leader = chat.kubectl.get("pod", operator.leader())
    async with httpx.AsyncClient(trust_env=False) as http:
        probe, said = [
            (await http.get(f"http://{pod['status']['podIP']}:8080/metrics")).text
            for pod in (probes[0], leader)
        ]
    figures = dict(line.rsplit(" ", 1) for line in probe.splitlines() if not line.startswith("#"))
    p50, p99 = (
        float(figures[f'chat_probe_delivery_seconds{{quantile="{share}"}}']) for share in ("0.5", "0.99")
    )
    assert 0 < p50 <= p99
    assert float(figures["chat_probe_gaps_total"]) >= 3
    about = f'{{namespace="{chat.namespace}",cluster="{chat.name}"}}'
    assert f"chatcluster_delivery_p99_ms{about}" in said
    assert f"chatcluster_delivery_gaps{about}" in said


async def test_a_version_that_delivers_nothing_takes_nobodys_place(chat: Chat) -> None:
    before = await chat.chat_pods()
    await chat.reason("DeliveryHealthy", "Delivering", 60)
    deaf = [{"name": AT_FIRST, "value": "deaf"}]
    chat.apply(image=FAULTY, chatPods={**PODS, "env": deaf})
    undone = await chat.until(lambda found: found["status"].get("undone"), 90, "undone")
    assert "deliver" in undone["status"]["undone"]["reason"]
    after = await chat.chat_pods_until(lambda found: set(found) == set(before), 60, "as before")
    assert after.keys() == before.keys()
    chat.apply(image=FAULTY, chatPods=PODS)
    assert (await chat.settled(2)).keys() == before.keys()
