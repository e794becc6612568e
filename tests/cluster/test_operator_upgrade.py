"""The operator and its resource definition are upgraded while people talk: nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatoperator.kube.children import covers
from cluster.kit.api import Api, eventually
from cluster.kit.chat import CHART, CRDS, SLOW, Chat, Operator
from cluster.kit.kubectl import Helm, Kubectl, run
from cluster.kit.talk import talking

pytestmark = pytest.mark.alone
"""All tests share the resource definition."""

PREVIOUS = Path(__file__).parent / "previous" / "chatcluster"
CRD = "chatclusters.chatcluster.dev"
OF_THE_OPERATOR = "chatcluster-operator"
TAKEN_OVER_S = 15.0
TOLD_S = 60.0


def is_in_force(definition: Path) -> bool:
    """Whether the API server has that resource definition; it adds defaults."""
    found = json.loads(run("kubectl", "get", "crd", CRD, "--output=json"))
    return covers(found["spec"], yaml.safe_load(definition.read_text())["spec"])


def started(kubectl: Kubectl) -> dict[str, Any]:
    """Every container of the cluster's pods, and when it was started."""
    return {
        f"{pod['metadata']['name']}/{status['name']}": (pod["metadata"]["uid"], status["containerID"])
        for pod in kubectl.get("pods")["items"]
        if pod["metadata"]["labels"].get("app.kubernetes.io/name") != OF_THE_OPERATOR
        for status in pod["status"]["containerStatuses"]
    }


@contextmanager
def previous(helm: Helm, kubectl: Kubectl) -> Iterator[Operator]:
    """At its end the resource definition is that of now, whatever happened."""
    operator = Operator(helm, kubectl)
    operator.install([kubectl.namespace], PREVIOUS, crds={"install": True})
    try:
        yield operator
    finally:
        kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRDS}")
        operator.remove()


async def test_not_one_reconnect(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    old, new = PREVIOUS / "files" / "chatclusters.yaml", CRDS / "chatclusters.yaml"
    with previous(helm, kubectl) as operator:
        assert is_in_force(old)
        assert not is_in_force(new)
        chat.apply()
        pods = await chat.settled(2)
        async with talking(chat.url, people=16, channels=8, rate=30.0) as talk:
            await talk.goes_on(30)

            async def has_told_all() -> bool:
                return any(note.startswith("DeliveryHealthy is True") for note in chat.events())

            await eventually(has_told_all, TOLD_S * SLOW, "the probe came through, which is told last")
            before, said = started(kubectl), chat.events()
            # In a thread: people go on talking meanwhile.
            await asyncio.to_thread(operator.install, [kubectl.namespace], CHART, crds={"install": True})
            assert is_in_force(new)

            async def leads() -> bool:
                return bool(operator.leader())

            await eventually(leads, TAKEN_OVER_S * SLOW, "one of the new ones leads")
            await talk.goes_on(300)
            assert (await chat.settled(2)).keys() == pods.keys()
            assert started(kubectl) == before
            assert chat.events() == said
            assert [len(device.recorder.ups) for device in talk.devices] == [1] * len(talk.devices)
            assert not any(device.client.moves or device.recorder.losses for device in talk.devices)
            # It does its work.
            await chat.scale(3)
            assert pods.keys() < (await chat.settled(3)).keys()
            await talk.goes_on(30)
