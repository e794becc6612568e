"""What watches bring, and what is noticed when they bring nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from support.kube_api import KubeApi, eventually

from chatoperator.kube.cache import Cache
from chatoperator.kube.client import Selection
from chatoperator.kube.kinds import NODE, POD
from chatoperator.kube.store import Store
from chatoperator.kube.watcher import Watcher

PODS = "/api/v1/namespaces/team/pods"
NODES = "/api/v1/nodes"


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().running() as running:
        yield running


@contextlib.asynccontextmanager
async def following(api: KubeApi, **options: float) -> AsyncIterator[tuple[Store, Watcher]]:
    client, store = api.client(), Store(POD)
    watcher = Watcher(client, Selection(POD, "team"), store, **options)
    task = asyncio.create_task(watcher.run())
    try:
        await eventually(lambda: watcher.listed)
        yield store, watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


def names(store: Store) -> set[str]:
    return {found["metadata"]["name"] for found in store.all()}


async def test_changes_come_by_watch(api: KubeApi) -> None:
    api.put(f"{PODS}/a", {})
    async with following(api) as (store, _):
        assert names(store) == {"a"}
        api.put(f"{PODS}/b", {"status": {"phase": "Pending"}})
        await eventually(lambda: names(store) == {"a", "b"})
        api.put(f"{PODS}/b", {"status": {"phase": "Running"}})
        await eventually(lambda: store.get("team", "b")["status"]["phase"] == "Running")
        api.remove(f"{PODS}/a")
        await eventually(lambda: names(store) == {"b"})
        assert api.asked("GET", "/pods") == 2  # a list and a watch


async def test_what_was_deleted_while_nobody_listened_is_gone(api: KubeApi) -> None:
    api.put(f"{PODS}/a", {})
    api.put(f"{PODS}/b", {})
    async with following(api) as (store, _):
        api.remove(f"{PODS}/a", told=False)
        api.forget()
        api.interrupt()
        await eventually(lambda: names(store) == {"b"})


async def test_a_watch_that_went_silent_is_given_up(api: KubeApi) -> None:
    async with following(api, silence_s=0.3) as (store, watcher):
        api.silent = True
        api.put(f"{PODS}/a", {})
        await eventually(lambda: names(store) == {"a"})
        assert watcher.problem is None or "pods" in str(watcher.problem)


async def test_a_watch_that_goes_on_is_not_trusted_for_ever(api: KubeApi) -> None:
    async with following(api, relist_s=0.5) as (store, _):
        api.put(f"{PODS}/lost", {}, told=False)
        api.interrupt()
        await eventually(lambda: names(store) == {"lost"})


async def test_a_list_of_before_does_not_take_away_what_was_just_made(api: KubeApi) -> None:
    async with following(api) as (store, _):
        made = {"metadata": {"name": "new", "namespace": "team", "resourceVersion": "5000"}}
        store.put(made)
        store.replace("team", [], 4000)
        assert names(store) == {"new"}
        store.replace("team", [], 5001)
        assert names(store) == set()


async def test_an_older_change_does_not_undo_a_newer_one(api: KubeApi) -> None:
    store = Store(POD)
    meta = {"name": "a", "namespace": "team"}
    store.put({"metadata": {**meta, "resourceVersion": "7", "deletionTimestamp": "now"}})
    store.put({"metadata": {**meta, "resourceVersion": "6"}})
    assert "deletionTimestamp" in store.get("team", "a")["metadata"]
    store.drop("team", "a", 6)
    assert names(store) == {"a"}


async def test_an_answer_that_comes_after_the_end_of_an_object_does_not_bring_it_back(api: KubeApi) -> None:
    """A pod without a node goes at once when it is deleted: the watch may tell so before the answer is there."""
    store = Store(POD)
    meta = {"name": "a", "namespace": "team"}
    store.put({"metadata": {**meta, "resourceVersion": "5"}})
    store.drop("team", "a", 7)
    store.put({"metadata": {**meta, "resourceVersion": "6", "deletionTimestamp": "now"}})
    assert names(store) == set()
    store.put({"metadata": {**meta, "resourceVersion": "8"}})
    assert names(store) == {"a"}, "another of its name"


async def test_an_api_server_that_is_away_is_known_to_be(api: KubeApi) -> None:
    async with following(api) as (_, watcher):
        api.stand_still = asyncio.Event()
        api.busy = ["0"] * 1000
        api.stand_still.set()
        api.interrupt()
        await eventually(lambda: watcher.problem is not None)
        api.busy = []
        await eventually(lambda: watcher.problem is None)


@contextlib.asynccontextmanager
async def cached(api: KubeApi, *namespaces: str) -> AsyncIterator[Cache]:
    client = api.client()
    cache = Cache(client, namespaces)
    task = asyncio.create_task(cache.run())
    try:
        await eventually(lambda: cache.is_current(namespaces[0]))
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


async def test_a_namespace_that_is_lost_makes_no_other_stale(api: KubeApi) -> None:
    api.closed.add("lost")
    async with cached(api, "team", "lost") as cache:
        await eventually(lambda: cache.problem("lost") is not None)
        assert not cache.is_current("lost")
        assert cache.is_current("team")
        assert cache.problem("team") is None
        assert cache.stale() > 1


async def test_nodes_that_may_not_be_seen_are_no_problem_and_not_known_either(api: KubeApi) -> None:
    api.put(f"{NODES}/n1", {"spec": {}, "status": {}})
    async with cached(api, "team") as cache:
        assert names(cache[NODE]) == {"n1"}
        api.forbidden["GET", NODES] = "no Role says so"
        api.interrupt()
        await eventually(lambda: not names(cache[NODE]))
        await eventually(lambda: cache.is_current("team"))


async def test_what_was_heard_of_nodes_is_not_believed_while_nothing_is_heard(api: KubeApi) -> None:
    api.put(f"{NODES}/n1", {"spec": {}, "status": {}})
    async with cached(api, "team") as cache:
        api.broken.add(NODES)
        api.interrupt()
        await eventually(lambda: not cache.is_current("team"))
        api.broken.clear()
        await eventually(lambda: cache.is_current("team"))
        assert names(cache[NODE]) == {"n1"}
