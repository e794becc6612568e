"""Objects of a cluster: made, put back, removed, and otherwise left in peace."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.kube_api import KubeApi, eventually

from chatoperator.kube.cache import Cache
from chatoperator.kube.children import Children, covers, prepare, remove
from chatoperator.kube.kinds import CONFIG_MAP, version_of
from chatoperator.kube.refusals import Refusals
from chatoperator.manifests.names import LABEL_CLUSTER, LABEL_MANAGED_BY, MANAGED_BY

MAP = "/api/v1/namespaces/team/configmaps/talk-live"


def manifest(text: str = "one", name: str = "talk-live") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": {LABEL_CLUSTER: "talk", LABEL_MANAGED_BY: MANAGED_BY},
            "ownerReferences": [{"uid": "owner"}],
        },
        "data": {"live.json": text},
    }


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().running() as running:
        yield running


@contextlib.asynccontextmanager
async def children_of(api: KubeApi) -> AsyncIterator[tuple[Children, Cache]]:
    client = api.client()
    cache = Cache(client, ["team"])
    task = asyncio.create_task(cache.run())
    try:
        await eventually(lambda: cache.is_current("team"))
        yield Children(client, cache, Refusals(), "owner"), cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


def version(cache: Cache) -> str:
    return cache[CONFIG_MAP].get("team", "talk-live")["metadata"]["resourceVersion"]


async def test_nothing_is_asked_for_while_nothing_changes(api: KubeApi) -> None:
    async with children_of(api) as (children, _):
        first = await children.ensure(prepare([manifest()]))
        again = await children.ensure(prepare([manifest()]))
        assert (first.made, again.made) == (1, 0)
        assert api.asked("PATCH", "configmaps") == 1


async def test_nor_by_an_operator_that_has_just_started(api: KubeApi) -> None:
    async with children_of(api) as (children, _):
        await children.ensure(prepare([manifest()]))
    async with children_of(api) as (children, _):
        await children.ensure(prepare([manifest()]))
        assert api.asked("PATCH", "configmaps") == 1


async def test_what_a_hand_has_changed_is_put_back_and_told(api: KubeApi) -> None:
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest()]))
        before = version(cache)
        api.put(MAP, {**api.objects[MAP], "data": {"live.json": "by hand"}})
        await eventually(lambda: version(cache) != before)
        done = await children.ensure(prepare([manifest()]))
        assert done.put_back == ["ConfigMap talk-live had been changed"]
        assert api.objects[MAP]["data"] == {"live.json": "one"}


async def test_what_is_deleted_is_made_again_and_told(api: KubeApi) -> None:
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest()]))
        api.remove(MAP)
        await eventually(lambda: cache[CONFIG_MAP].get("team", "talk-live") is None)
        done = await children.ensure(prepare([manifest()]))
        assert done.put_back == ["ConfigMap talk-live had been deleted"]
        assert MAP in api.objects


async def test_a_copy_of_before_with_our_annotation_is_told_and_put_back_ever_more_rarely(
    api: KubeApi,
) -> None:
    """As a tool applies it that was pointed at what somebody had once read from the API server."""
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest("one")]))
        copied = copy.deepcopy(api.objects[MAP])
        await children.ensure(prepare([manifest("two")]))
        told = []
        for _ in range(20):
            put = api.put(MAP, copied)["metadata"]["resourceVersion"]
            await eventually(lambda put=put: version(cache) == put)  # type: ignore[misc]
            told += (await children.ensure(prepare([manifest("two")]))).put_back
        assert told == ["ConfigMap talk-live had been changed"]
        assert api.asked("PATCH", "configmaps") == 3


@pytest.mark.parametrize("stays", [True, False], ids=["out of sight", "deleted"])
async def test_what_is_taken_away_again_and_again_is_put_back_ever_more_rarely(
    api: KubeApi, stays: bool
) -> None:
    """A tool writes its own name over the label by which objects are watched; another one prunes."""
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest()]))
        for _ in range(20):
            if MAP in api.objects:
                one = copy.deepcopy(api.objects[MAP])
                one["metadata"]["labels"][LABEL_MANAGED_BY] = "gitops"
                api.remove(MAP)
                if stays:
                    api.put(MAP, one, told=False)
            await eventually(lambda: cache[CONFIG_MAP].get("team", "talk-live") is None)
            await children.ensure(prepare([manifest()]))
        assert api.asked("PATCH", "configmaps") == 2


async def test_what_others_add_is_theirs(api: KubeApi) -> None:
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest()]))
        before = version(cache)
        api.put(MAP, {**api.objects[MAP], "status": {"seen": True}})
        await eventually(lambda: version(cache) != before)
        assert (await children.ensure(prepare([manifest()]))).put_back == []
        assert api.asked("PATCH", "configmaps") == 1


async def test_what_is_wanted_otherwise_is_applied_and_is_no_news(api: KubeApi) -> None:
    async with children_of(api) as (children, _):
        await children.ensure(prepare([manifest()]))
        done = await children.ensure(prepare([manifest("two")]))
        assert done.put_back == []
        assert api.objects[MAP]["data"] == {"live.json": "two"}


async def test_what_is_not_wanted_any_more_goes_and_nothing_of_others(api: KubeApi) -> None:
    async with children_of(api) as (children, cache):
        await children.ensure(prepare([manifest(), manifest(name="talk-old")]))
        foreign = manifest(name="talk-foreign")
        foreign["metadata"]["ownerReferences"] = [{"uid": "somebody"}]
        api.put(MAP.replace("talk-live", "talk-foreign"), foreign)
        await eventually(lambda: cache[CONFIG_MAP].get("team", "talk-foreign") is not None)
        gone = await children.remove_others("team", "talk", prepare([manifest()]))
        assert gone.removed == ["ConfigMap talk-old"]
        assert {path.rpartition("/")[2] for path in api.objects} == {"talk-live", "talk-foreign"}


async def test_what_was_deleted_does_not_come_back_with_the_answer(api: KubeApi) -> None:
    """Of some kinds the API server answers with the object as it was, and a watch may have told of its end before."""
    async with children_of(api) as (_, cache):
        live = api.put(MAP, manifest())
        store, client = cache[CONFIG_MAP], api.client()
        await eventually(lambda: store.get("team", "talk-live") is not None)
        api.silent = True  # it has said already:
        store.drop("team", "talk-live", version_of(live))
        await remove(client, cache, CONFIG_MAP, live)
        await client.aclose()
        assert store.get("team", "talk-live") is None
        assert MAP not in api.objects


def test_defaults_of_the_api_server_are_no_difference() -> None:
    wanted = {"spec": {"ports": [{"name": "http", "port": 80}], "selector": {}, "type": None}}
    live = {"spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "clusterIP": "10.0.0.1"}}
    assert covers(live, wanted)
    assert not covers(live, {"spec": {"ports": [{"name": "http", "port": 81}]}})
    assert not covers(live, {"spec": {"ports": [{"name": "http"}, {"name": "other"}]}})
    assert not covers({"ingress": [{"from": []}, {}]}, {"ingress": [{"from": []}]})
