"""Its refusals are errors of ours, and one that is too busy is asked again when it says so."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from support.kube_api import KubeApi, eventually

from chatoperator.kube.client import KubeClient, Selection
from chatoperator.kube.errors import (
    Conflict,
    Forbidden,
    NotFound,
    NotLeading,
    QuotaExceeded,
    TooManyRequests,
    Unreachable,
    error_of,
)
from chatoperator.kube.kinds import CONFIG_MAP

MAPS = "/api/v1/namespaces/team/configmaps"
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "team"}}


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().running() as running:
        yield running


@pytest.fixture
async def client(api: KubeApi) -> AsyncIterator[KubeClient]:
    made = api.client()
    yield made
    await made.aclose()


async def test_a_busy_one_is_asked_again_when_it_says(api: KubeApi, client: KubeClient) -> None:
    api.busy = ["1"]
    began = time.monotonic()
    await client.apply(MANIFEST)
    assert time.monotonic() - began >= 1.0
    assert api.asked("PATCH", MAPS) == 2


async def test_one_that_stays_busy_is_left_alone(api: KubeApi, client: KubeClient) -> None:
    api.busy = ["0"] * 10
    with pytest.raises(TooManyRequests):
        await client.apply(MANIFEST)
    assert api.asked("PATCH", MAPS) == 3


async def test_while_it_is_busy_it_is_asked_for_nothing_else(api: KubeApi, client: KubeClient) -> None:
    api.busy = ["0.5"]
    first = asyncio.create_task(client.apply(MANIFEST))
    await eventually(lambda: not api.busy)
    began = time.monotonic()
    await client.list(Selection(CONFIG_MAP, "team"))
    assert time.monotonic() - began >= 0.4
    await first


async def test_nor_after_the_last_try(api: KubeApi, client: KubeClient) -> None:
    api.busy = ["0.2"] * 3
    with pytest.raises(TooManyRequests):
        await client.apply(MANIFEST)
    began = time.monotonic()
    await client.apply(MANIFEST)
    assert time.monotonic() - began >= 0.15


async def test_a_watch_that_is_refused_waits_as_well(api: KubeApi, client: KubeClient) -> None:
    api.busy = ["0.2"]
    watched = client.watch(Selection(CONFIG_MAP, "team"), "1", for_s=1, silence_s=5)
    with pytest.raises(TooManyRequests):
        await anext(watched)
    began = time.monotonic()
    watched = client.watch(Selection(CONFIG_MAP, "team"), "1", for_s=1, silence_s=5)
    assert (await anext(watched)).type == "OPENED"
    assert time.monotonic() - began >= 0.15
    await watched.aclose()


async def test_another_of_the_same_name_is_not_deleted(api: KubeApi, client: KubeClient) -> None:
    api.put(f"{MAPS}/a", {})
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAP, "team", "a", "uid-of-before")
    assert f"{MAPS}/a" in api.objects


async def test_nothing_is_changed_once_the_guard_says_no(api: KubeApi, client: KubeClient) -> None:
    def refuse() -> None:
        raise NotLeading("another leads")

    client.guard = refuse
    for write in (client.apply(MANIFEST), client.create(MANIFEST)):
        with pytest.raises(NotLeading):
            await write
    assert [method for method, _ in api.seen] == []
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAP, "team", "a")


async def test_nobody_there_is_unreachable(client: KubeClient, api: KubeApi) -> None:
    client._host = "http://127.0.0.1:9"  # the port of `discard`: nobody listens
    with pytest.raises(Unreachable):
        await client.get(CONFIG_MAP, "team", "a")


def test_a_quota_is_told_from_a_role() -> None:
    quota = error_of("create pods", 403, b'{"message": "pods \\"a\\" is forbidden: exceeded quota: q"}', None)
    role = error_of("create pods", 403, b'{"message": "pods is forbidden: User cannot create"}', None)
    assert type(quota) is QuotaExceeded
    assert type(role) is Forbidden
    assert "create pods" in str(quota)


def test_an_answer_that_is_no_status_is_quoted() -> None:
    assert "bad gateway" in str(error_of("get pods", 502, b"<h1>bad gateway</h1>", None))


def test_a_refusal_that_quotes_a_whole_pod_is_told_by_its_beginning_and_end() -> None:
    said = 'Pod "a" is invalid: spec: Invalid value: {' + "x" * 5_000 + "}: field is immutable"
    told = str(error_of("patch pods a", 422, json.dumps({"message": said}).encode(), None))
    assert len(told) < 450
    assert told.startswith('patch pods a: Pod "a" is invalid: spec:') and told.endswith("field is immutable")
