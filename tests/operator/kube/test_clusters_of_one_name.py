"""Two ChatClusters of one name in two namespaces share a Redis, and know nothing of each other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest
from support.manifest_samples import GATEWAY, cluster_of
from support.valkey import Valkey, redis_client

from chatkernel.keys import Keys
from chatkernel.registry import PodEntry, PodState, Registry
from chatkernel.settings import ServiceSettings
from chatoperator.kube.link import RedisLink
from chatoperator.manifests import settings
from chatoperator.spec import ChatCluster


def keys_of_pods(cluster: ChatCluster, component: str = "chat") -> Keys:
    """As pods make them of what they are told."""
    told = msgspec.json.decode(settings.settings_file(cluster, component), type=ServiceSettings)
    return Keys(told.key_prefix, told.cluster)


@pytest.fixture
async def links(valkey: Valkey) -> AsyncIterator[dict[str, RedisLink]]:
    """The operator's, by namespace."""
    made = {}
    for namespace in ("blue", "green"):
        made[namespace] = RedisLink(lambda: None)
        await made[namespace].open(cluster_of(GATEWAY, namespace=namespace), valkey.url)
    yield made
    for link in made.values():
        await link.aclose()


async def test_the_pods_of_one_are_not_seen_by_the_operator_or_the_pods_of_the_other(
    valkey: Valkey, links: dict[str, RedisLink]
) -> None:
    entry = PodEntry("talk-chat-1", "one", "ws://x", "local", "r", PodState.READY, 3, 100, 1)
    blue, green = (keys_of_pods(cluster_of(GATEWAY, namespace=name)) for name in ("blue", "green"))
    async with redis_client(valkey.url) as redis:
        assert (await Registry(redis, blue).renew(entry, 60.0)).ok
        assert (await Registry(redis, green).snapshot()).entries == []
    now = time.time()
    seen = {name: await link.observe(now) for name, link in links.items()}
    names = {name: [one.name for one in view.entries] for name, view in seen.items() if view is not None}
    assert names == {"blue": ["talk-chat-1"], "green": []}


def test_all_kinds_of_pods_of_one_cluster_have_the_same_keys() -> None:
    cluster = cluster_of(GATEWAY, namespace="blue")
    assert len({keys_of_pods(cluster, component).base for component in settings.TOLD}) == 1
