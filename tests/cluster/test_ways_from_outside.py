"""People who come by the public address, each to a chat pod by that pod's own path; and pods that go meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.kit.api import Api, eventually
from cluster.kit.chat import SLOW, Chat, Operator
from cluster.kit.edge import Edge, known_as
from cluster.kit.gateway import http_routes
from cluster.kit.talk import Talk, talking

HOST, NAME = "chat.example.com", "tests"
ANNOTATIONS = {"example.com/read-timeout": "3600"}
WAYS: dict[str, dict[str, Any]] = {
    "Ingress": {"ingress": {"className": NAME, "annotations": ANNOTATIONS}},
    "HTTPRoute": {"gateway": {"name": NAME}},
}
PEOPLE = 6
"""So many that some are on each: where one is sent depends on who came of late, and the probe is among these."""
MOVED_S = 30.0
COLLECTED_S = 60.0
"""A garbage collector hears of a new kind only half a minute after it was defined."""


@pytest.fixture(scope="module")
def routes() -> Iterator[None]:
    with http_routes():
        yield


@pytest.fixture(scope="module")
def operator(routes: None, operator: Operator) -> Operator:
    """Installed when HTTPRoutes are known already: it looks for them once a minute."""
    return operator


def where(talk: Talk) -> dict[str, str]:
    """The address of each one's socket, by the pod that it leads to."""
    links = [device.client.link for device in talk.devices]
    return {link.pod: link.seat.url for link in links if link is not None}


@pytest.mark.parametrize("kind", WAYS)
async def test_people_on_two_pods_talk_on_when_these_go(api: Api, operator: Operator, kind: str) -> None:
    chat, kubectl = Chat(api, operator.kubectl), operator.kubectl
    chat.apply(exposure={"host": HOST, **WAYS[kind]})
    pods = await chat.settled(2)
    url = kubectl.get("chat", chat.name)["status"]["url"]
    assert url == f"http://{HOST}"
    await only_these(chat, kind, {"talk-api", *pods})

    edge = Edge(api, chat.namespace, NAME)
    async with edge.running() as address:
        with known_as(HOST, address):
            async with talking(url, people=PEOPLE, channels=PEOPLE) as talk:
                await talk.goes_on(20)
                assert where(talk) == {pod: f"ws://{HOST}/pods/{pod}/v1/socket" for pod in pods}
                assert {"talk-api", *pods} <= edge.taken.keys()

                drained, killed = sorted(pods)
                kubectl("delete", "pod", drained, "--wait=false")
                await nobody_is_on(talk, drained)
                await talk.goes_on(20)
                assert not any(device.recorder.losses for device in talk.devices)
                await chat.settled(2)

                kubectl("delete", "pod", killed, "--force", "--grace-period=0")
                await talk.goes_on(20)
                after = await chat.settled(2)
                await talk.goes_on(20)
                assert where(talk).keys() <= after.keys()
                assert edge.taken.keys() & after.keys()
    await only_these(chat, kind, {"talk-api", *after})


async def nobody_is_on(talk: Talk, pod: str) -> None:
    async def gone() -> bool:
        return not talk.on(pod)

    await eventually(gone, MOVED_S * SLOW, f"nobody is on {pod}")


async def only_these(chat: Chat, kind: str, names: set[str]) -> None:
    """The ways of pods that are gone went with them, and so did those of another kind."""
    found = {}

    async def there() -> bool:
        nonlocal found
        items = chat.kubectl.get("ingresses,httproutes.gateway.networking.k8s.io")["items"]
        found = {(one["kind"], one["metadata"]["name"]): one["metadata"] for one in items}
        return found.keys() == {(kind, name) for name in names}

    await eventually(there, COLLECTED_S * SLOW, f"{kind}s of {sorted(names)}, and no others")
    if kind == "Ingress":
        assert all(one["annotations"].items() >= ANNOTATIONS.items() for one in found.values())
