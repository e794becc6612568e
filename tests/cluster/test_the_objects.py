"""What the API server makes of the objects of a cluster: it takes every one, in a namespace that lets only restricted
pods in, and keeps each field as it was said, so that saying it again is no change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException
from support.manifest_samples import GATEWAY, SPECS, all_objects, cluster_of, of_kind, pods_of
from support.quantity_pairs import PAIRS

from chatoperator.manifests.inputs import Manifest
from chatoperator.manifests.names import FIELD_MANAGER
from cluster.kit.api import Api

pytestmark = pytest.mark.cluster

PATHS = {
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Service": "/api/v1/namespaces/{}/services",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
}
"""Where objects of a kind are. HTTPRoutes and ServiceMonitors are no part of Kubernetes itself."""

STRICT = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
DRY = {"dryRun": "All"}
APPLY = "application/apply-patch+yaml"

EVERY = pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))


async def apply(api: Api, one: Manifest, **query: str) -> Any:
    path = f"{PATHS[one['kind']].format(one['metadata']['namespace'])}/{one['metadata']['name']}"
    return await api.request("PATCH", path, one, {**STRICT, **query}, APPLY)


def objects(spec: dict[str, Any], namespace: str) -> list[Manifest]:
    """Of the kinds that every Kubernetes knows. Without owners, which are not there: they would be collected."""
    made = [one for one in all_objects(cluster_of(spec, namespace=namespace)) if one["kind"] in PATHS]
    for one in made:
        one["metadata"].pop("ownerReferences", None)
    return made


def differences(said: Any, kept: Any, path: str = "") -> list[str]:
    """Where what is kept is not what was said; what the API server adds is none, save in lists."""
    if isinstance(said, dict) and isinstance(kept, dict):
        return [one for key in said for one in differences(said[key], kept.get(key), f"{path}.{key}")]
    if isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        pairs = enumerate(zip(said, kept, strict=True))
        return [one for index, (a, b) in pairs for one in differences(a, b, f"{path}[{index}]")]
    return [] if said == kept else [f"{path}: {said!r} is kept as {kept!r}"]


@EVERY
async def test_every_object_is_kept_as_it_was_said(api: Api, namespace: str, spec: dict[str, Any]) -> None:
    made = objects(spec, namespace)
    for account in of_kind(made, "ServiceAccount").values():
        await apply(api, account)
    if "mine" in {pod["spec"]["serviceAccountName"] for pod in pods_of(made).values()}:
        await apply(api, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named("mine", namespace)})
    for one in made:
        if one["kind"] == "Pod":  # its PriorityClass is not there, and tolerations are added to it
            one["spec"].pop("priorityClassName", None)
            one["spec"].pop("tolerations", None)
        kept = await apply(api, one, **DRY)
        assert differences(one, kept) == [], f"{one['kind']} {one['metadata']['name']}"


@EVERY
async def test_every_pod_is_let_into_a_restricted_namespace(
    api: Api, namespace: str, spec: dict[str, Any]
) -> None:
    made = objects(spec, namespace)
    for account in [*of_kind(made, "ServiceAccount").values()]:
        await apply(api, account)
    for component, pod in pods_of(made).items():
        whole = bare_pod(component, pod, namespace, next(iter(of_kind(made, "ServiceAccount"))))
        await api.request("POST", PATHS["Pod"].format(namespace), whole, {**DRY, "fieldValidation": "Strict"})
        whole["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(ApiException) as refused:
            await api.request("POST", PATHS["Pod"].format(namespace), whole, DRY)
        assert refused.value.status == 403, "or the namespace would let anything in"


async def test_saying_it_again_is_no_change(api: Api, namespace: str) -> None:
    for spec in SPECS.values():
        made = [one for one in objects(spec, namespace) if one["kind"] not in ("Pod", "Job")]
        for one in made:
            if one["kind"] == "Deployment":
                one["spec"]["replicas"] = 0
        first = [await apply(api, one) for one in made]
        for one, before in zip(made, first, strict=True):
            again = await apply(api, one)
            # Controllers write a Deployment's status meanwhile.
            assert again["metadata"].get("generation") == before["metadata"].get("generation"), one["kind"]
            assert again.get("spec") == before.get("spec")
            if one["kind"] in ("ConfigMap", "Secret", "Service", "NetworkPolicy", "ControllerRevision"):
                assert again["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_secrets_keep_what_is_in_them_when_their_owner_changes(api: Api, namespace: str) -> None:
    (secret, *_) = of_kind(objects(GATEWAY, namespace), "Secret").values()
    collection = PATHS["Secret"].format(namespace)
    await api.request("POST", collection, secret)
    ownership = {key: copy.deepcopy(secret[key]) for key in ("apiVersion", "kind", "metadata")}
    owner = await api.get(f"/api/v1/namespaces/{namespace}")
    reference = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner["metadata"]["uid"]}
    owned = copy.deepcopy(ownership)
    owned["metadata"]["ownerReferences"] = [reference]
    for applied, owners in ((ownership, 0), (owned, 1), (ownership, 0)):
        kept = await apply(api, applied, **(DRY if owners else {}))
        assert kept["data"] == secret["data"]
        assert len(kept["metadata"].get("ownerReferences", [])) == owners


async def test_amounts_are_kept_as_we_write_them(api: Api, namespace: str) -> None:
    for given, expected in PAIRS:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": named("amount", namespace),
            "spec": {"hard": {"limits.cpu": given}},
        }
        kept = await apply(api, quota, **DRY)
        assert kept["spec"]["hard"]["limits.cpu"] == expected, given


def named(name: str, namespace: str) -> Manifest:
    return {"name": name, "namespace": namespace}


def bare_pod(component: str, template: Manifest, namespace: str, account: str) -> Manifest:
    """As the controller of its Deployment or Job would make it."""
    pod = copy.deepcopy({"metadata": template["metadata"], "spec": template["spec"]})
    pod["metadata"] |= named(f"{component}-x", namespace)
    pod["spec"] |= {"serviceAccountName": account}
    pod["spec"].pop("priorityClassName", None)
    return {"apiVersion": "v1", "kind": "Pod", **pod}
