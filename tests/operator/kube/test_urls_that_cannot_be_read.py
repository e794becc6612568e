"""A store's URL that is none is told by its field and its Secret, without what is in it, and stops nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.kube_api import KubeApi, eventually
from support.kube_cluster import World, started, tended
from support.manifest_samples import INPUTS, SMALL, cluster_of
from support.resources import RIGHT, resource
from support.valkey import Valkey

from chatkernel.storage.url import StoreUrlError
from chatoperator.manifests import network, ports
from chatoperator.manifests.sources import SourceError
from chatoperator.resource_object import ResourceError
from chatoperator.resource_object import cluster_of as understood

BAD = [
    "postgresql://ann:hunter2\u2100@h/chat",
    "postgresql://ann:[hunter2]@h/chat",
    "postgresql://ann:hunter2/@h/chat",
    "postgresql://h:99999/chat",
    "postgresql://h:hunter2/chat",
    "postgresql://",
    "mongodb://[::1/chat",
    "mongodb://h:0/chat",
    "mysql://ann:hunter2@h",
]


@pytest.mark.parametrize("url", BAD)
def test_no_word_of_it_is_told(url: str) -> None:
    with pytest.raises(StoreUrlError) as error:
        ports.store_ports(url)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None or error.value.__suppress_context__


@pytest.mark.parametrize(
    ("store", "url", "why"),
    [
        ("mongodb", "mongodb://[::1/db", "is not a URL"),
        ("mongodb", "mongodb://h:70000/db", "must name hosts as host:port"),
        ("postgresql", "postgresql://h:99999/db", "must name hosts as host:port"),
    ],
)
def test_in_a_resource_it_is_refused(store: str, url: str, why: str) -> None:
    spec: dict[str, Any] = {"redis": RIGHT["redis"], store: {"url": url}}
    with pytest.raises(ResourceError, match=rf"spec\.{store}\.url.*{why}"):
        understood(resource(spec))


def test_that_of_an_issuers_keys_is_told_too() -> None:
    issuer = {"issuer": "https://i", "jwksUrl": "https://i:99999/keys", "audience": "chat"}
    with pytest.raises(SourceError, match="jwksUrl of https://i is not a URL"):
        network.policies(cluster_of({**SMALL, "auth": {"issuers": [issuer]}}), INPUTS)


@pytest.mark.slow
async def test_one_in_a_secret_is_a_condition_and_what_runs_is_tended_on(
    valkey: Valkey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with KubeApi().running() as api:
        world = World(api, valkey)
        world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
        async with tended(world, tmp_path):
            await started(world)
            for url in BAD[:2]:
                world.secret(redis=valkey.url, postgresql=url)
                await eventually(lambda: world.condition("StorageReady").get("reason") == "SecretInvalid")
                told = world.condition("StorageReady")["message"]
                assert "spec.postgresql.urlFrom.secret: postgresql of the Secret stores" in told
                world.secret(redis=valkey.url, postgresql="postgresql://db/chat")
                await eventually(lambda: world.condition("StorageReady").get("reason") != "SecretInvalid")
            world.secret(redis=valkey.url, postgresql=BAD[3])
            await eventually(lambda: world.condition("StorageReady").get("reason") == "SecretInvalid")
            world.apply(chatPods={"replicas": 1})
            await eventually(lambda: "Drains the chat pod" in str(world.events()), 5)
    assert "hunter2" not in caplog.text
