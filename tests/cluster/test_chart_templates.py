"""The chart's templates: what each switch makes, and that the API server takes all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kit.kubectl import Failed, Kubectl, run

CHART = Path(__file__).parents[2] / "charts" / "chatcluster"
CRD = Path(__file__).parents[2] / "crds" / "chatclusters.yaml"
KUBERNETES = "1.35.0"
"""Without a cluster helm takes the version that it was built for, and ours was built without one."""
NAMESPACED_ROLES = ("Role", "RoleBinding")
EVERYWHERE_ROLES = ("ClusterRole", "ClusterRoleBinding")

Objects = dict[tuple[str, str, str], dict[str, Any]]
"""By kind, namespace and name."""


def rendered(*sets: str, namespace: str = "ops", release: str = "chatcluster") -> Objects:
    options = [f"--set={one}" for one in sets]
    told = [f"--namespace={namespace}", f"--kube-version={KUBERNETES}"]
    text = run("helm", "template", release, str(CHART), *told, *options)
    found: Objects = {}
    for one in yaml.safe_load_all(text):
        if one is not None:
            key = (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            assert key not in found
            found[key] = one
    return found


def kinds(objects: Objects) -> set[str]:
    return {kind for kind, _, _ in objects}


def only(objects: Objects, kind: str) -> dict[str, Any]:
    (found,) = [one for (each, _, _), one in objects.items() if each == kind]
    return found


def operator(objects: Objects) -> dict[str, Any]:
    container: dict[str, Any] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return container


def environment(objects: Objects) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in operator(objects)["env"]}


def test_lint_has_nothing_to_say() -> None:
    said = run("helm", "lint", "--strict", str(CHART))
    assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_by_default_there_is_all_that_an_operator_needs() -> None:
    objects = rendered()
    assert kinds(objects) == {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "NetworkPolicy",
        "Pod",  # the drill of `helm test`
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    }
    assert only(objects, "Deployment")["spec"]["replicas"] == 2


def test_the_resource_definition_is_the_generated_one_and_stays_at_uninstall() -> None:
    made = only(rendered(), "CustomResourceDefinition")
    assert made["spec"] == yaml.safe_load(CRD.read_text())["spec"]
    assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "annotations" not in only(rendered("crds.keep=false"), "CustomResourceDefinition")["metadata"]


@pytest.mark.parametrize(
    ("switch", "kind", "there"),
    [
        ("crds.install=false", "CustomResourceDefinition", False),
        ("podDisruptionBudget.enabled=false", "PodDisruptionBudget", False),
        ("networkPolicy.enabled=false", "NetworkPolicy", False),
        ("serviceAccount.create=false,serviceAccount.name=mine", "ServiceAccount", False),
        ("drill.enabled=false", "Pod", False),
        ("serviceMonitor.enabled=true", "ServiceMonitor", True),
        ("serviceMonitor.enabled=true", "Service", True),
        ("dashboards.enabled=true", "ConfigMap", True),
    ],
)
def test_a_switch_makes_or_leaves_out_its_objects_and_nothing_else(
    switch: str, kind: str, there: bool
) -> None:
    before, after = rendered(), rendered(switch)
    assert (kind in kinds(after)) is there
    assert {name for name, _, _ in before.keys() ^ after.keys()} <= {kind, "ServiceMonitor", "Service"}


def test_without_rbac_there_are_no_roles() -> None:
    left = rendered("rbac.create=false", "rbac.aggregate=false")
    assert not kinds(left) & {*NAMESPACED_ROLES, *EVERYWHERE_ROLES}


def test_an_operator_of_some_namespaces_has_roles_there_and_no_cluster_role() -> None:
    objects = rendered("watchNamespaces={one,two}", "rbac.aggregate=false")
    assert not kinds(objects) & set(EVERYWHERE_ROLES)
    assert {place for kind, place, _ in objects if kind == "Role"} == {"one", "two", "ops"}
    assert environment(objects)["CHAT_NAMESPACES"] == "one,two"
    policy = only(objects, "NetworkPolicy")["spec"]["egress"][-1]["to"][0]["namespaceSelector"]
    assert policy["matchExpressions"][0]["values"] == ["one", "two"]


def test_the_same_rights_hold_in_one_namespace_and_in_all() -> None:
    everywhere = [
        one["rules"]
        for (kind, _, name), one in rendered().items()
        if kind == "ClusterRole" and "-view" not in name
    ]
    some = [
        one["rules"]
        for (kind, place, _), one in rendered("watchNamespaces={one}").items()
        if (kind, place) == ("Role", "one")
    ]
    nodes = [rule for rules in everywhere for rule in rules if rule["resources"] == ["nodes"]]
    assert len(nodes) == 1
    assert some[0] in [[rule for rule in rules if rule not in nodes] for rules in everywhere]


def leases(objects: Objects) -> set[str]:
    """Those that some Role lets the operator take."""
    roles = [one["rules"] for (kind, _, _), one in objects.items() if kind == "Role"]
    return {
        name
        for rules in roles
        for rule in rules
        if "leases" in rule["resources"]
        for name in rule.get("resourceNames", [])
    }


def test_two_releases_in_one_namespace_have_a_lease_each() -> None:
    one, two = rendered(release="one"), rendered(release="two")
    assert leases(one) == {environment(one)["CHAT_LEASE"]}
    assert leases(two) == {environment(two)["CHAT_LEASE"]}
    assert leases(one) != leases(two)
    assert not one.keys() & two.keys() - {("CustomResourceDefinition", "", "chatclusters.chatcluster.dev")}


def test_the_image_is_told_to_the_operator_too() -> None:
    objects = rendered("image.repository=example.com/chat", "image.tag=1.2.3", "developmentImages.redis=r:1")
    assert operator(objects)["image"] == environment(objects)["CHAT_IMAGE"] == "example.com/chat:1.2.3"
    assert environment(objects)["CHAT_DEV_REDIS_IMAGE"] == "r:1"
    digest = f"sha256:{'0' * 64}"
    assert operator(rendered(f"image.digest={digest}"))["image"] == f"chatcluster@{digest}"


def pods(objects: Objects) -> Iterator[dict[str, Any]]:
    for (kind, _, _), one in objects.items():
        if kind == "Deployment":
            yield one["spec"]["template"]["spec"]
        if kind == "Pod":
            yield one["spec"]


def test_every_pod_is_restricted_and_reads_only() -> None:
    for pod in pods(rendered()):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("wrong", ["replica=3", "replicas=many", "image.name=x", "watchNamespaces=chat"])
def test_a_value_that_is_wrong_or_unknown_is_refused(wrong: str) -> None:
    with pytest.raises(Failed, match="values don't meet the specifications of the schema"):
        rendered(wrong)


def test_the_api_server_takes_every_object(kubectl: Kubectl) -> None:
    """With all switches on, but for those whose kinds this cluster does not know."""
    objects = rendered(
        "dashboards.enabled=true", "watchNamespaces={" + kubectl.namespace + "}", namespace=kubectl.namespace
    )
    kubectl("apply", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all(objects.values()))
    kubectl(
        "apply",
        "--dry-run=server",
        "--filename=-",
        stdin=yaml.safe_dump_all(
            one
            for (kind, _, _), one in rendered(namespace=kubectl.namespace).items()
            if kind.startswith("ClusterRole")
        ),
    )
