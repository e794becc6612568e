"""What holds for every object of every cluster."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.manifest_samples import (
    INPUTS,
    POD_UID,
    SPECS,
    all_objects,
    chat_pod,
    cluster_of,
    of_kind,
    pods_of,
)

from chatoperator.manifests import keys, names
from chatoperator.manifests.inputs import Manifest

EVERY = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))

EMPTY_MEANS_SOMETHING = {"emptyDir"}


def values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from values(one, f"{path}.{key}")


def owner_of(one: Manifest) -> tuple[str, str]:
    (owner,) = one["metadata"]["ownerReferences"]
    assert owner["controller"] is True
    assert owner["blockOwnerDeletion"] is False
    return owner["kind"], owner["uid"]


@EVERY
def test_it_is_in_the_clusters_namespace_with_the_clusters_labels(spec: dict[str, Any]) -> None:
    for one in all_objects(cluster_of(spec)):
        meta = one["metadata"]
        assert meta["namespace"] == "apps", one
        assert meta["labels"][names.LABEL_CLUSTER] == meta["labels"][names.LABEL_INSTANCE] == "talk"
        assert meta["labels"][names.LABEL_MANAGED_BY] == names.MANAGED_BY


@EVERY
def test_it_goes_with_the_cluster_or_with_its_pod(spec: dict[str, Any]) -> None:
    cluster = cluster_of(spec)
    for one in all_objects(cluster):
        if one["metadata"]["name"] == "talk-keys" and cluster.spec.deletion_policy == "Keep":
            assert "ownerReferences" not in one["metadata"]
        elif (
            one["kind"] in ("Service", "Ingress", "HTTPRoute")
            and chat_pod(cluster)["metadata"]["name"] in (one["metadata"]["name"])
        ):
            assert owner_of(one) == ("Pod", POD_UID)
        else:
            assert owner_of(one) == ("ChatCluster", INPUTS.owner_uid)


@EVERY
def test_it_says_nothing_that_the_api_server_would_not_keep(spec: dict[str, Any]) -> None:
    for one in all_objects(cluster_of(spec)):
        assert json.loads(json.dumps(one)) == one, "plain JSON"
        for path, value in values(one):
            last = path.rpartition(".")[2]
            assert value is not None, f"{one['kind']}{path}"
            if value in ({}, []):
                assert last in EMPTY_MEANS_SOMETHING, f"{one['kind']}{path}"


@EVERY
def test_it_is_the_same_whenever_it_is_made(spec: dict[str, Any]) -> None:
    def text() -> str:
        return json.dumps(all_objects(cluster_of(spec)))

    assert text() == text()


@EVERY
def test_names_fit_and_are_of_one_object_each(spec: dict[str, Any]) -> None:
    objects = all_objects(cluster_of(spec, "a" * 40))
    found = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(found)) == len(found)
    assert max(len(name) for _, name in found) <= 63
    for one in objects:
        labels = [one["metadata"]["labels"], *(pod["metadata"]["labels"] for pod in pods_of([one]).values())]
        assert all(len(value) <= 63 for each in labels for value in each.values())


def test_no_two_clusters_have_an_object_of_the_same_name() -> None:
    clusters = ["a", "a-chat", "a-live", "a-api", "a-redis", "a-schema", "a-api-api"]
    by_cluster: dict[tuple[str, str], set[str]] = {}
    for name, spec in itertools.product(clusters, SPECS.values()):
        for one in all_objects(cluster_of(spec, name)):
            by_cluster.setdefault((one["kind"], one["metadata"]["name"]), set()).add(name)
    assert len(by_cluster) > 100
    assert {key: of for key, of in by_cluster.items() if len(of) > 1} == {}


@EVERY
def test_what_a_pod_mounts_is_there_or_the_persons_own(spec: dict[str, Any]) -> None:
    cluster = cluster_of(spec)
    objects = all_objects(cluster)
    maps = {name: set(one["data"]) for name, one in of_kind(objects, "ConfigMap").items()}
    made = {name: set(one["data"]) for name, one in of_kind(objects, "Secret").items()}
    assert set(made) == set(keys.wanted(cluster))
    people = {"people": {"url", "ca.crt"}}
    persons = people | {"redis": {"url", "ca.crt"}, "mongodb": {"connectionString"}, "mongodb-ca": {"ca.crt"}}
    secrets = persons | made
    for pod in pods_of(objects).values():
        for path, value in values(pod["spec"]):
            last = path.rpartition(".")[2]
            if last == "configMap":
                assert {item["key"] for item in value["items"]} <= maps[value["name"]]
            elif last == "secret":
                name = value.get("secretName") or value["name"]
                assert {item["key"] for item in value["items"]} <= secrets[name]
            elif last == "secretKeyRef":
                assert value["key"] in secrets[value["name"]]
        mounted = {mount["name"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


@EVERY
def test_service_accounts_exist_or_are_the_persons_own(spec: dict[str, Any]) -> None:
    objects = all_objects(cluster_of(spec))
    there = {*of_kind(objects, "ServiceAccount"), "mine"}
    for pod in pods_of(objects).values():
        assert pod["spec"]["serviceAccountName"] in there
        assert pod["spec"]["automountServiceAccountToken"] is False
