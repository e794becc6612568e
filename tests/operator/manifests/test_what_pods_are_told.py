"""The settings of each kind of pod, as the services themselves read them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.manifest_samples import (
    APART,
    FULL,
    GATEWAY,
    INPUTS,
    SMALL,
    SPECS,
    all_objects,
    chat_pod,
    cluster_of,
    of_kind,
)

from chatkernel.settings import LiveSettings, ServiceSettings, load_secrets, load_settings
from chatoperator.manifests import schema, settings, sources
from chatoperator.manifests.inputs import Manifest
from chatoperator.spec import ChatCluster


def told(cluster: ChatCluster, component: str) -> ServiceSettings:
    return msgspec.json.decode(settings.settings_file(cluster, component), type=ServiceSettings)


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_every_kind_of_pod_can_read_its_settings(spec: dict[str, Any]) -> None:
    cluster = cluster_of(spec)
    for component in settings.TOLD:
        read = told(cluster, component)
        assert read.cluster == "apps/talk"
        assert read.port == 8080
        assert read.secret_file == "/etc/chat/keys/keys.json"
        assert read.live_file == "/etc/chat/live/live.json"
        assert bool(read.redis_url) != bool(read.redis_url_file)
        assert bool(read.store_url) != bool(read.store_url_file)


def test_a_chat_pod_starts_from_what_is_mounted(tmp_path: Path) -> None:
    """Everything as in the pod, but under another root."""
    objects = all_objects(cluster_of(SMALL))
    pod = chat_pod(cluster_of(SMALL))
    container = pod["spec"]["containers"][0]
    for path, text in mounted(pod, objects).items():
        at = tmp_path / path.removeprefix("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text.replace("/etc/chat", f"{tmp_path}/etc/chat"))
    environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    environ["CHAT_CONFIG"] = f"{tmp_path}{environ['CHAT_CONFIG']}"
    name = pod["metadata"]["name"]
    read = load_settings({**environ, "CHAT_POD": name, "CHAT_POD_IP": "10.1.2.3"})
    assert read.pod == name
    assert read.public_url == "ws://10.1.2.3:8080/v1/socket"
    assert read.redis_url == "redis://:pass-word_1@talk-redis.apps.svc:6379/0"
    assert read.store_url == "postgresql://chat:pass-word_1@talk-postgresql.apps.svc:5432/chat"
    assert load_secrets(read).signing_keys[0].kid == "k-1"
    assert read.revision == pod["metadata"]["labels"]["chatcluster.dev/revision"]


def mounted(pod: Manifest, objects: list[Manifest]) -> dict[str, str]:
    """The files that the kubelet puts into the pod: path to text."""
    maps, secrets = of_kind(objects, "ConfigMap"), of_kind(objects, "Secret")
    paths = {one["name"]: one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]}
    files = {}
    for volume in pod["spec"]["volumes"]:
        if "configMap" in volume:
            source, data = volume["configMap"], maps[volume["configMap"]["name"]]["data"]
        elif "secret" in volume:
            source, coded = volume["secret"], secrets[volume["secret"]["secretName"]]["data"]
            data = {key: base64.b64decode(value).decode() for key, value in coded.items()}
        else:
            continue
        for item in source["items"]:
            files[f"{paths[volume['name']]}/{item['path']}"] = data[item["key"]]
    return files


def test_clients_are_told_the_way_from_outside() -> None:
    assert told(cluster_of(FULL), "chat").public_url == "wss://chat.example.com/pods/{pod}/v1/socket"
    assert told(cluster_of(FULL), "api").public_url == "https://chat.example.com"
    assert told(cluster_of(GATEWAY), "chat").public_url == "ws://chat.example.com/pods/{pod}/v1/socket"
    assert told(cluster_of(SMALL), "api").public_url == "http://talk-api.apps.svc"
    assert told(cluster_of(FULL), "probe").api_url == "http://talk-api.apps.svc", (
        "which may not find its host"
    )


def test_certificates_are_looked_for_where_they_are_mounted() -> None:
    full = told(cluster_of(FULL), "worker")
    assert (full.redis_ca_file, full.store_ca_file) == (
        "/etc/chat/trust/redis.crt",
        "/etc/chat/trust/store.crt",
    )
    trust = next(one for one in chat_pod(cluster_of(FULL))["spec"]["volumes"] if one["name"] == "trust")
    items = [item["path"] for source in trust["projected"]["sources"] for item in source["secret"]["items"]]
    assert items == ["redis.crt", "store.crt"]
    assert told(cluster_of(GATEWAY), "chat").redis_insecure is True


def test_the_directory_of_people_may_be_apart_from_the_messages() -> None:
    cluster = cluster_of(APART)
    for component in settings.TOLD:
        read = told(cluster, component)
        assert (read.store_url, read.store_url_file) == ("mongodb://db.example/chat", "")
        assert (read.directory_url, read.directory_url_file) == ("", "/etc/chat/directory/url")
        assert (read.store_ca_file, read.directory_ca_file) == ("", "/etc/chat/trust/directory.crt")
    pod = chat_pod(cluster)["spec"]
    assert {"directory", "trust"} <= {volume["name"] for volume in pod["volumes"]}
    job = schema.job(cluster, INPUTS)["spec"]["template"]["spec"]
    environ = {one["name"]: one.get("value", "") for one in job["containers"][0]["env"]}
    assert environ["CHAT_STORE_URL"] == "mongodb://db.example/chat"
    assert environ["CHAT_DIRECTORY_URL_FILE"] == "/etc/chat/directory/url"
    assert environ["CHAT_DIRECTORY_URL_CA_FILE"] == "/etc/chat/trust/directory.crt"


def test_what_may_change_while_pods_run_is_in_one_file_for_all_and_in_no_other() -> None:
    cluster = cluster_of(
        {**SMALL, "limits": {"sendsPerS": 7}, "drain": {"ratePerSecond": 9}, "auth": {"loginAttempts": 3}}
    )
    live = of_kind(all_objects(cluster), "ConfigMap")["talk-live"]
    read = msgspec.json.decode(live["data"]["live.json"], type=LiveSettings)
    assert (read.limits.sends_per_s, read.drain.rate_per_s, read.rates.login_attempts) == (7, 9, 3)
    for component in settings.TOLD:
        assert settings.settings_file(cluster, component) == settings.settings_file(
            cluster_of(SMALL), component
        )
    assert settings.live_hash(cluster) != settings.live_hash(cluster_of(SMALL))


def test_a_cluster_without_a_store_or_redis_is_told_so() -> None:
    for spec, missing in (
        ({"redis": {"development": True}}, "mongodb"),
        ({"postgresql": {"development": True}}, "redis"),
    ):
        with pytest.raises(sources.SourceError, match=missing):
            settings.settings_file(cluster_of(spec), "chat")


def test_no_settings_hold_what_a_pod_does_not_use() -> None:
    chat = json.loads(settings.settings_file(cluster_of(FULL), "chat"))
    assert "retention_s" not in chat
    assert chat["auth"]["issuers"] == []
    assert "capacity" not in json.loads(settings.settings_file(cluster_of(FULL), "api"))


def test_a_deployment_rolls_when_its_settings_change() -> None:
    def template(spec: dict[str, Any]) -> object:
        return of_kind(all_objects(cluster_of(spec), INPUTS), "Deployment")["talk-api"]["spec"]["template"]

    assert template({**SMALL, "retention": {"messages": "1h"}}) != template(SMALL)
