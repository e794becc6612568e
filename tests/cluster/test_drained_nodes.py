"""`kubectl drain`, evictions and disruption budgets: whoever has to move has another pod first."""

from __future__ import annotations

import asyncio

import pytest

from cluster.kit.api import Api, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.kubectl import Kubectl
from cluster.kit.talk import talking

pytestmark = pytest.mark.alone

DISCOVERED_S = 60.0
"""Kubernetes counts the pods of a new kind of owner from about 30 s after its definition was made."""
GRACE_S = 30.0
"""Of a chat pod, whose drain takes 20 s at most, as by default."""


@pytest.fixture
async def chat(api: Api, operator: Operator) -> Chat:
    """Under a name that no other test's cluster has: `kubectl drain` looks at pods of all namespaces."""
    one = Chat(api, operator.kubectl, "moving")
    one.apply(
        chatPods={
            "replicas": 2,
            "connectionsPerPod": 100,
            "terminationGracePeriodSeconds": int(GRACE_S),
        },
        apiPods={"replicas": 2},
    )
    await one.settled(2)
    return one


def drain(kubectl: Kubectl, node: str, cluster: str) -> str:
    """As a person does it, without --force; only the servers of the development cluster stay where they are."""
    ours = f"chatcluster.dev/cluster={cluster},app.kubernetes.io/component in (chat,api,worker,probe)"
    options = ["--delete-emptydir-data", f"--pod-selector={ours}", "--timeout=100s"]
    return kubectl("drain", node, *options)


async def test_a_node_is_drained_while_people_talk(chat: Chat) -> None:
    before = await chat.chat_pods()
    node = before[min(before)]["spec"]["nodeName"]
    there = [name for name, pod in before.items() if pod["spec"]["nodeName"] == node]
    try:
        async with talking(chat.url) as talk:
            was = talk.moves()
            began = asyncio.get_running_loop().time()
            said = await asyncio.to_thread(drain, chat.kubectl, node, chat.name)
            took_s = asyncio.get_running_loop().time() - began
            assert f"node/{node} drained" in said
            assert took_s < GRACE_S * len(there) * SLOW
            await talk.goes_on(20)
            after = await chat.settled(2)
            await talk.goes_on(20)
            assert max(talk.moved(was)) <= len(there)
            assert not talk.losses()
        assert not set(there) & set(after)
        assert node not in {pod["spec"]["nodeName"] for pod in after.values()}
    finally:
        chat.kubectl("uncordon", node)


async def test_evictions_take_one_pod_at_a_time_and_all_in_the_end(chat: Chat, api: Api) -> None:
    before = await chat.chat_pods()
    first, second = sorted(before)
    await the_budget_allows(api, chat, expected=2)
    async with talking(chat.url) as talk:
        was = talk.moves()
        await api.evict(chat.namespace, first)
        assert not await api.evicted(chat.namespace, second)
        await eventually(
            lambda: api.evicted(chat.namespace, second),
            30.0 * SLOW,
            "the other may go when there is one in its place",
        )
        after = await chat.settled(2)
        await talk.goes_on(20)
        assert max(talk.moved(was)) <= 2
        assert not talk.losses()
    assert not set(before) & set(after)


async def test_the_only_pod_may_be_evicted_and_people_move_to_the_one_in_its_place(
    chat: Chat, api: Api
) -> None:
    await chat.scale(1)
    try:
        (only,) = await chat.settled(1)
        await the_budget_allows(api, chat, expected=1)
        async with talking(chat.url) as talk:
            was = talk.moves()
            await api.evict(chat.namespace, only)
            (other,) = await chat.settled(1)

            async def all_there() -> bool:
                return len(talk.on(other)) == len(talk.devices)

            await eventually(all_there, 30.0 * SLOW, "all people are on the one in its place")
            await talk.goes_on(20)
            assert talk.moved(was) == [1] * len(talk.devices)
            assert not talk.losses()
    finally:
        await chat.scale(2)


async def the_budget_allows(api: Api, chat: Chat, expected: int) -> None:
    """One pod, as it has found by the owner's scale subresource how many there are to be."""

    def holds(budget: dict[str, object]) -> bool:
        status = budget.get("status")
        assert isinstance(status, dict)
        return (status.get("expectedPods"), status.get("disruptionsAllowed")) == (expected, 1)

    await api.until(
        f"/apis/policy/v1/namespaces/{chat.namespace}/poddisruptionbudgets",
        lambda found: holds(found[f"{chat.name}-chat"]),
        DISCOVERED_S * SLOW,
        "the disruption budget knows its pods",
    )
