"""Other tools that apply copies of a cluster's children again and again: no fight without an end, no storm of writes,
and the resource has the last word."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from kubernetes.aio.client.exceptions import ApiException

from cluster.kit.api import Api, Object, eventually
from cluster.kit.chat import SLOW, Chat, Operator, requests_of

FOR_S, PAUSE_S = 8.0, 0.1
WRITES_MAX = 4
"""Of one object in that time: at once, and after pauses of 1, 2 and 4 s."""
LAST_PAUSE_S = 8.0
WRITES = ("apply", "create", "patch", "update", "delete")
SERVICES, MAPS, POLICIES = "services", "configmaps", "networkpolicies"
READ = f"{SERVICES},{MAPS},{POLICIES}"
GONE = 404

Tool = Callable[[], Awaitable[object]]


class Tools:
    """Of one namespace. Each names its object by kind and name, and writes what is given to it."""

    def __init__(self, api: Api, chat: Chat) -> None:
        self._api, self._chat = api, chat

    def copied(self, kind: str, name: str) -> Object:
        """As somebody keeps it who has read it from the API server."""
        live = self._chat.kubectl.get(kind, name)
        meta = {key: live["metadata"][key] for key in ("name", "labels", "annotations")}
        kept = {key: live[key] for key in ("apiVersion", "kind", "data", "spec") if key in live}
        kept.get("spec", {}).pop("clusterIP", None)
        kept.get("spec", {}).pop("clusterIPs", None)
        return {**kept, "metadata": meta}

    def gitops(self, kind: str, body: Object) -> Tool:
        """Server-side, with force."""
        path = f"/api/v1/namespaces/{self._chat.namespace}/{kind}/{body['metadata']['name']}"
        return lambda: self._api.apply(path, body, "gitops")

    def plain(self, body: Object) -> Tool:
        """As a person types it."""
        text = json.dumps(body)
        return lambda: asyncio.to_thread(self._chat.kubectl, "apply", "--filename=-", stdin=text)

    def prune(self, name: str) -> Tool:
        """It is not in the tool's repository."""
        path = f"/apis/networking.k8s.io/v1/namespaces/{self._chat.namespace}/{POLICIES}/{name}"

        async def delete() -> None:
            try:
                await self._api.request("DELETE", path)
            except ApiException as error:
                assert error.status == GONE, error

        return delete


async def again_and_again(*tools: Tool) -> list[int]:
    """How often each has done it."""
    until = time.monotonic() + FOR_S

    async def work(tool: Tool) -> int:
        count = 0
        while time.monotonic() < until:
            await tool()
            count += 1
            await asyncio.sleep(PAUSE_S)
        return count

    return await asyncio.gather(*map(work, tools))


def writes(operator: Operator) -> Counter[str]:
    """Of the operator so far, by kind."""
    made: Counter[str] = Counter()
    for (verb, kind), count in requests_of(operator.metrics()).items():
        made[kind] += int(count) if verb in WRITES else 0
    return made


def as_it_is(chat: Chat) -> dict[tuple[str, str], object]:
    """What the operator has said of the objects that are fought about."""
    return {
        (one["kind"], one["metadata"]["name"]): (one["metadata"]["labels"], one.get("data"), one.get("spec"))
        for one in chat.kubectl.get(READ, f"--selector=chatcluster.dev/cluster={chat.name}")["items"]
    }


@pytest.fixture
async def tools(api: Api, chat: Chat) -> Tools:
    return Tools(api, chat)


async def test_copies_of_what_is_as_it_should_be_cost_nothing(
    chat: Chat, operator: Operator, tools: Tools
) -> None:
    service, settings = tools.copied(SERVICES, "talk-api"), tools.copied(MAPS, "talk-live")
    before, written = as_it_is(chat), writes(operator)
    await again_and_again(
        tools.gitops(SERVICES, service),
        tools.plain(service),
        tools.gitops(MAPS, settings),
        tools.plain(settings),
    )
    assert (writes(operator) - written).keys().isdisjoint({SERVICES, MAPS})
    assert as_it_is(chat) == before
    assert not any("had been" in note for note in chat.events())


async def test_other_copies_are_put_back_ever_more_rarely_and_for_good_in_the_end(
    chat: Chat, operator: Operator, tools: Tools
) -> None:
    # What was read before the resource changed: it bears the operator's own mark of then.
    live = tools.copied(MAPS, "talk-live")
    chat.apply(limits={"textMaxBytes": 1024})

    async def has_changed() -> bool:
        return bool(tools.copied(MAPS, "talk-live")["data"] != live["data"])

    await eventually(has_changed, 10.0 * SLOW, "the limit is told")
    await chat.settled(2)
    api = tools.copied(SERVICES, "talk-api")
    api["spec"]["selector"]["app.kubernetes.io/component"] = "nobody"
    api["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "gitops"  # out of the operator's sight
    worker = tools.copied(MAPS, "talk-worker")
    worker["data"]["settings.json"] += "\n"
    store = tools.copied(SERVICES, "talk-postgresql")
    store["metadata"]["labels"]["app.kubernetes.io/name"] = "store"

    wanted, written = as_it_is(chat), writes(operator)
    times = await again_and_again(
        tools.gitops(MAPS, live),
        tools.gitops(SERVICES, api),
        tools.plain(worker),
        tools.plain(store),
        tools.prune("talk-schema"),
    )
    made = writes(operator) - written
    assert made[MAPS] <= 2 * WRITES_MAX
    assert made[SERVICES] <= 2 * WRITES_MAX
    assert made[POLICIES] <= WRITES_MAX
    assert min(times) >= WRITES_MAX, "or nothing is proved"

    async def as_wanted() -> bool:
        return as_it_is(chat) == wanted

    await eventually(as_wanted, LAST_PAUSE_S * SLOW, "as the resource says")
    told = "\n".join(chat.events())
    for what in (
        "ConfigMap talk-live",
        "ConfigMap talk-worker",
        "Service talk-api",
        "Service talk-postgresql",
    ):
        assert f"{what} had been changed, and is again as the resource says" in told
    assert "NetworkPolicy talk-schema had been deleted, and is again as the resource says" in told
