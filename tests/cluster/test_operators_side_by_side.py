"""Two operators in one namespace, each of other namespaces; and one of whose two namespaces one is deleted."""

from __future__ import annotations

import pytest

from cluster.kit.api import Api, eventually
from cluster.kit.chat import SLOW, Chat, Operator, operating
from cluster.kit.kubectl import Helm, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.kit.talk import talking

SMALL = {"chatPods": {"replicas": 1, "connectionsPerPod": 100}, "rebalance": {"tolerance": 10}}
GONE_S = 90
RELISTED_S = 45.0
"""A watch that was allowed goes on; the next list of ChatClusters is forbidden."""


def restarts(operator: Operator) -> dict[str, int]:
    """Of each of its pods."""
    pods = {name: operator.kubectl.get("pod", name) for name in operator.pods()}
    return {name: pod["status"]["containerStatuses"][0]["restartCount"] for name, pod in pods.items()}


def blind(operator: Operator) -> float:
    """How many of its watches bring nothing."""
    path = f"/api/v1/namespaces/{operator.kubectl.namespace}/pods/{operator.leader()}:8080/proxy/metrics"
    told = operator.kubectl("get", "--raw", path).splitlines()
    (figure,) = [line for line in told if line.startswith("chatcluster_operator_watches_stale ")]
    return float(figure.split()[1])


@pytest.mark.slow
async def test_each_looks_after_its_own_and_goes_on_without_the_other_and_without_a_namespace(
    api: Api, helm: Helm, kubectl: Kubectl, namespaces: Namespaces
) -> None:
    staying, going = Kubectl(namespaces.make()), Kubectl(namespaces.make())
    here, stays, goes = (Chat(api, each) for each in (kubectl, staying, going))
    with operating(helm, kubectl, release="second") as second:
        with operating(helm, kubectl, [staying.namespace, going.namespace], release="first") as first:
            assert first.leader() in first.pods()
            assert second.leader() in second.pods()
            for chat in (here, stays, goes):
                chat.apply(**SMALL)
            for chat in (here, stays, goes):
                await chat.settled(1, 120)
            before = restarts(first), restarts(second)
            async with (
                talking(stays.url, people=4, channels=2) as talk,
                talking(here.url, people=4, channels=2, seed=2) as other,
            ):
                going("delete", "namespace", going.namespace, "--wait=false")

                async def noticed() -> bool:
                    return blind(first) > 0

                await eventually(noticed, RELISTED_S * SLOW, "it sees nothing there any more")
                # What is asked for elsewhere is seen at once, as ever.
                await stays.scale(2)
                await stays.settled(2)
                await talk.goes_on(20)
                await other.goes_on(20)
                for each in (talk, other):
                    assert not any(device.client.moves or device.recorder.losses for device in each.devices)
            kubectl("wait", "--for=delete", f"namespace/{going.namespace}", f"--timeout={GONE_S}s")
            assert (restarts(first), restarts(second)) == before
        await here.scale(2)
        await here.settled(2)
        assert not first.pods()
