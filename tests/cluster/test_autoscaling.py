"""How many chat pods: by their connections, and by somebody else's decision through `/scale`."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, Object
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.talk import talking

PER_POD = 12
"""At half of it, six connections each: the probe has one to every pod."""
SYNC_S = 30.0
"""HPA looks every 15 s."""


def by_connections() -> Object:
    scaling = {"min": 1, "max": 3, "targetUtilisation": 0.5, "scaleDownStabilisationSeconds": 10}
    return {"connectionsPerPod": PER_POD, "autoscaling": scaling}


def by_hpa(lowest: int, highest: int) -> Object:
    """Without a metrics-server only its bounds count, and those it enforces as ever."""
    target = {"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster", "name": "talk"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "talk"},
        "spec": {"scaleTargetRef": target, "minReplicas": lowest, "maxReplicas": highest},
    }


@pytest.fixture
def chat(api: Api, operator: Operator) -> Chat:
    return Chat(api, operator.kubectl)


async def test_as_many_as_people_need_and_no_more(chat: Chat, api: Api) -> None:
    chat.apply(chatPods=by_connections())
    (first,) = await chat.settled(1, 90)
    # The only pod may be evicted: the scale subresource, which says 2, is not believed.
    await api.until(
        f"/apis/policy/v1/namespaces/{chat.namespace}/poddisruptionbudgets",
        lambda found: found["talk-chat"].get("status", {}).get("disruptionsAllowed") == 1,
        30 * SLOW,
        "a disruption budget for one pod",
    )
    async with talking(chat.url, people=8, channels=4) as talk:
        two = await chat.settled(2, 60)
        assert first in two
        assert "want 2 pods at 50% of 12" in chat.last_scaling()["reason"]
        before = talk.moves()
        await talk.goes_on(50)
        assert not talk.losses()
        assert talk.moves() == before
    await chat.settled(1, 90)
    assert (chat.last_scaling()["from"], chat.last_scaling()["to"]) == (2, 1)
    # Up once and down once: no flapping.
    said = chat.events()
    assert sum("Started the chat pod" in note for note in said) == 2
    assert sum("Ended the chat pod" in note for note in said) == 1


@pytest.mark.slow
async def test_kubernetes_own_autoscaler_scales_it(chat: Chat) -> None:
    chat.apply(chatPods={"replicas": 2, "connectionsPerPod": PER_POD})
    two = await chat.settled(2, 90)
    chat.kubectl.apply(by_hpa(3, 5))
    three = await chat.settled(3, SYNC_S + 60)
    assert set(two) < set(three)
    chat.kubectl.apply(by_hpa(1, 2))
    left = await chat.settled(2, SYNC_S + 60)
    assert set(left) < set(three)
    # It counts pods by the selector and the number that `/scale` tells.
    chat.kubectl("wait", "hpa/talk", "--for=jsonpath={.status.currentReplicas}=2", "--timeout=60s")
    chat.kubectl.delete(by_hpa(1, 2))
