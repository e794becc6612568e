"""The chart on a real cluster: it works, has the rights that it needs and no others, and can be upgraded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kit.api import Api
from cluster.kit.chat import CHART, RELEASE, Chat, operating
from cluster.kit.faults import Faults
from cluster.kit.kubectl import Helm, Kubectl, run
from cluster.kit.talk import talking
from cluster.machine.images import PRODUCT, PRODUCT_TAG

ACCOUNT = f"{RELEASE}-chatcluster"
CRD = "chatclusters.chatcluster.dev"

Right = tuple[str, str, str, str]
"""API group, resource, verb, name of the object ("" is any)."""


async def test_helm_test_drills_the_cluster(api: Api, helm: Helm, kubectl: Kubectl) -> None:
    chat = Chat(api, kubectl)
    with operating(
        helm, kubectl, drill={"namespace": kubectl.namespace, "users": 8, "rate": 10, "seconds": 5}
    ):
        chat.apply()
        await chat.settled(2)
        said = helm("test", RELEASE, "--logs", "--timeout=180s", timeout_s=200)
    assert "All promises kept" in said


async def test_the_operator_may_do_what_it_does_and_nothing_else(
    api: Api, helm: Helm, kubectl: Kubectl
) -> None:
    """Nothing that it asked for in the life of a cluster was refused (but nodes: those are of no namespace), and the
    API server grants what the chart says, to the letter."""
    chat = Chat(api, kubectl)
    with operating(helm, kubectl) as operator:
        chat.apply()
        await chat.settled(2)
        await chat.scale(3)
        await chat.settled(3)
        await chat.scale(2)
        await chat.settled(2)
        raw = f"/api/v1/namespaces/{kubectl.namespace}/pods/{operator.leader()}:8080/proxy/metrics"
        requests = re.findall(
            r'operator_requests_total\{verb="(\w+)",resource="(\w+)",code="(\w+)"\}',
            kubectl("get", "--raw", raw),
        )
        granted = rights_of(kubectl, ACCOUNT) - rights_of(kubectl, "default")
        wanted = rights_in(helm("get", "manifest", RELEASE), kubectl.namespace)
    assert {verb for verb, _, _ in requests} >= {"list", "watch", "apply", "create", "patch", "delete", "get"}
    assert {(verb, resource) for verb, resource, code in requests if code == "403"} <= {("list", "nodes")}
    assert granted == wanted


def rights_of(kubectl: Kubectl, account: str) -> set[Right]:
    """As the API server says them."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": kubectl.namespace},
    }
    who = f"--as=system:serviceaccount:{kubectl.namespace}:{account}"
    # Whoever that is may not read the schemas by which kubectl would check this before.
    told = ["--validate=false", "--output=json", "--filename=-"]
    answer = json.loads(kubectl("create", who, *told, stdin=json.dumps(review)))
    assert answer["status"]["incomplete"] is False
    return {right for rule in answer["status"]["resourceRules"] for right in rights(rule)}


def rights_in(manifest: str, namespace: str) -> set[Right]:
    """Those of all Roles that a release has in the namespace."""
    objects: list[dict[str, Any]] = [one for one in yaml.safe_load_all(manifest) if one]
    return {
        right
        for one in objects
        if one["kind"] == "Role" and one["metadata"]["namespace"] == namespace
        for rule in one["rules"]
        for right in rights(rule)
    }


def rights(rule: dict[str, Any]) -> set[Right]:
    return {
        (group, resource, verb, name)
        for group in rule.get("apiGroups") or [""]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames") or [""]
    }


async def test_an_upgrade_of_the_operator_touches_no_pod_of_a_cluster(
    api: Api, helm: Helm, kubectl: Kubectl
) -> None:
    chat = Chat(api, kubectl)
    with operating(helm, kubectl) as operator:
        chat.apply()
        before = await chat.settled(2)
        leader = operator.leader()
        operator.install([kubectl.namespace], logLevel="DEBUG")
        await chat.scale(3)
        after = await chat.settled(3)
        assert before.keys() < after.keys()
        assert operator.leader() != leader
        assert [pod["metadata"]["uid"] for pod in before.values()] == [
            after[name]["metadata"]["uid"] for name in before
        ]


@pytest.mark.slow
async def test_an_operator_of_another_image_moves_nobody_until_the_resource_asks_for_it(
    api: Api, helm: Helm, kubectl: Kubectl, faults: Faults
) -> None:
    chat = Chat(api, kubectl)
    faults.tag(f"{PRODUCT}:{PRODUCT_TAG}", f"{PRODUCT}:next")
    with operating(helm, kubectl) as operator:
        chat.apply()
        before = await chat.settled(2)
        leader = operator.leader()
        async with talking(chat.url) as talk:
            operator.install([kubectl.namespace], image={"repository": PRODUCT, "tag": "next"})
            await chat.scale(3)
            after = await chat.settled(3)
            assert operator.leader() != leader
            await talk.goes_on(20)
            assert before.keys() < after.keys()
            assert not any(device.client.moves or device.recorder.losses for device in talk.devices)
        chat.apply(version="next", chatPods={"replicas": 3, "connectionsPerPod": 100})
        await chat.until(lambda found: found["status"].get("image") == f"{PRODUCT}:next", 30, "asked for")
        assert not after.keys() & (await chat.settled(3, 180)).keys()


@pytest.fixture
def older_chart(tmp_path: Path) -> Path:
    """Ours, with a resource definition that says something else of itself."""
    copy = tmp_path / "chatcluster"
    shutil.copytree(CHART, copy)
    crd = copy / "files" / "chatclusters.yaml"
    text = crd.read_text()
    assert "description: One chat cluster." in text
    crd.write_text(text.replace("description: One chat cluster.", "description: As it was before.", 1))
    return copy


def described() -> str:
    """What the resource definition that is in force says of itself."""
    found = json.loads(run("kubectl", "get", "crd", CRD, "--output=json"))
    return str(found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"])


def test_an_upgrade_renews_the_resource_definition_and_an_uninstall_leaves_it(
    helm: Helm, kubectl: Kubectl, older_chart: Path
) -> None:
    """Nothing runs here: only what helm does with the definition. `--take-ownership`, since the tests have one."""
    sets = ["--set=replicas=0", f"--set=watchNamespaces={{{kubectl.namespace}}}", "--take-ownership"]
    helm("upgrade", "--install", RELEASE, str(older_chart), *sets)
    assert described() == "As it was before."
    helm("upgrade", RELEASE, str(CHART), *sets)
    assert described() == "One chat cluster."
    helm("uninstall", RELEASE)
    assert described() == "One chat cluster."
