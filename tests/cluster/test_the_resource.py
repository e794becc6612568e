"""What the API server makes of the resource: it explains it, fills in defaults, and refuses what breaks a rule with a
sentence that says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.resources import (
    BROKEN,
    CHANGES,
    GOOD,
    NAMES_THAT_CANNOT_BE,
    SECRET,
    resource,
    spec_of,
)

from chatoperator.resource_object import cluster_of
from chatoperator.resource_status import (
    ChatPodsStatus,
    Condition,
    ConditionType,
    DeliveryStatus,
    Phase,
    Status,
    Truth,
)
from cluster.kit.kubectl import Failed, Kubectl
from cluster.kit.namespaces import Namespaces
from cluster.machine.processes import until

ROOT = Path(__file__).parents[2]
CRD = "chatclusters.chatcluster.dev"
EXPLAINED_S = 60.0
NOW = "2026-01-31T12:00:00Z"


@pytest.fixture(scope="module")
def kubectl(namespaces: Namespaces) -> Iterator[Kubectl]:
    """In a namespace of its own, with the schema there."""
    namespace = namespaces.make()
    here = Kubectl(namespace)
    here("apply", "--server-side", "--force-conflicts", f"--filename={ROOT}/crds/chatclusters.yaml")
    here("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=60s")
    until(lambda: is_explained(here), EXPLAINED_S, "the schema is explained")
    yield here
    namespaces.leave(namespace)


def is_explained(kubectl: Kubectl) -> bool:
    """A while after it is served."""
    try:
        return "conditions" in kubectl("explain", "chat.status")
    except Failed:
        return False


@pytest.fixture
def talk(kubectl: Kubectl) -> Iterator[Kubectl]:
    """With a cluster `talk` in it, as small as can be."""
    kubectl.apply(resource(spec_of({}), namespace=kubectl.namespace))
    yield kubectl
    kubectl("delete", "chat/talk")


def refusals(kubectl: Kubectl, *command: str, specs: Sequence[dict[str, Any]]) -> list[str]:
    """What is said against each: "" if nothing."""
    items = [resource(spec_of(spec), f"c{index}", kubectl.namespace) for index, spec in enumerate(specs)]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    try:
        kubectl(*command, "--filename=-", stdin=listed)
    except Failed as refused:
        said = refused.said
    else:
        said = ""
    parts = re.split(r'^(?=.*ChatCluster\.chatcluster\.dev "c\d+" is invalid)', said, flags=re.MULTILINE)
    found = {
        int(match[1]): part
        for part in parts
        if (match := re.search(r'ChatCluster\.chatcluster\.dev "c(\d+)" is invalid', part))
    }
    assert said.count("is invalid") == len(found), said
    return [found.get(index, "") for index in range(len(specs))]


def test_it_explains_itself(kubectl: Kubectl) -> None:
    drain = kubectl("explain", "chat.spec.drain")
    assert "How a chat pod that is going moves its clients." in drain
    assert "After this what is left is closed, resumable. Above 0 to 3600. Default: 20." in " ".join(
        drain.split()
    )
    everything = kubectl("explain", "chat", "--recursive")
    assert all(field in everything for field in ("targetUtilisation", "caSecret", "lastTransitionTime"))


def test_each_rule_refuses_at_its_field_and_says_what_to_do(kubectl: Kubectl) -> None:
    said = refusals(kubectl, "create", "--dry-run=server", specs=[each.spec for each in BROKEN])
    for each, told in zip(BROKEN, said, strict=True):
        assert re.search(rf"{re.escape(each.field)}: [A-Z]", told), (each, told)
        assert each.text in told, (each, told)


def test_what_breaks_no_rule_is_taken(kubectl: Kubectl) -> None:
    assert refusals(kubectl, "create", "--dry-run=server", specs=GOOD) == [""] * len(GOOD)


@pytest.mark.parametrize("name", NAMES_THAT_CANNOT_BE)
def test_a_name_that_pods_could_not_be_called_after_is_refused(kubectl: Kubectl, name: str) -> None:
    assert "metadata.name must begin with a letter" in kubectl.refused(
        resource(spec_of({}), name, kubectl.namespace)
    )


def test_what_cannot_change_does_not(kubectl: Kubectl) -> None:
    assert refusals(kubectl, "create", specs=[each.before for each in CHANGES]) == [""] * len(CHANGES)
    said = refusals(kubectl, "replace", "--dry-run=server", specs=[each.after for each in CHANGES])
    kubectl("delete", "chat", "--all")
    for each, told in zip(CHANGES, said, strict=True):
        if each.field:
            assert re.search(rf"{re.escape(each.field)}: [A-Z]", told) and each.text in told, (each, told)
        else:
            assert told == "", each


def test_a_variable_or_a_region_twice_is_refused(kubectl: Kubectl) -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    specs = [
        {"chatPods": {"env": twice}},
        {"worker": {"pod": {"env": twice}}},
        {"mongodb": {**SECRET, "zones": [{"region": "eu"}, {"region": "eu"}]}},
    ]
    assert all(
        "Duplicate value" in told for told in refusals(kubectl, "create", "--dry-run=server", specs=specs)
    )


def test_an_unknown_field_is_refused_and_not_dropped(kubectl: Kubectl) -> None:
    for field in (
        {"chatpods": {"replicas": 3}},
        {"media": {"bucket": "a"}},
        {"storage": {"url": "sqlite:///a"}},
    ):
        said = refusal(kubectl, resource(spec_of(field), namespace=kubectl.namespace))
        (name,) = field
        assert f'unknown field "spec.{name}' in said


def refusal(kubectl: Kubectl, manifest: dict[str, Any]) -> str:
    """Of a client that validates as `kubectl apply` does when nobody says how."""
    with pytest.raises(Failed) as refused:
        kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
    return refused.value.said


def test_what_is_not_said_is_as_by_default(talk: Kubectl) -> None:
    made = talk.get("chat/talk")
    assert made["spec"]["chatPods"]["replicas"] == 2
    assert made["spec"]["drain"] == {"deadlineSeconds": 20, "ratePerSecond": 100}
    assert cluster_of(made).spec == cluster_of(resource(spec_of({}))).spec


def test_the_same_again_is_no_change(talk: Kubectl) -> None:
    before = talk.get("chat/talk")["metadata"]
    talk.apply(resource(spec_of({}), namespace=talk.namespace))
    after = talk.get("chat/talk")["metadata"]
    assert (after["generation"], after["resourceVersion"]) == (
        before["generation"],
        before["resourceVersion"],
    )


def test_it_can_be_scaled_without_knowing_what_it_is(talk: Kubectl) -> None:
    talk("scale", "chat/talk", "--replicas=5")
    assert talk.get("chat/talk")["spec"]["chatPods"]["replicas"] == 5
    with pytest.raises(Failed, match=r"spec\.chatPods\.replicas"):
        talk("scale", "chat/talk", "--replicas=0")
    write_status(talk, Status(chat_pods=ChatPodsStatus(replicas=4), selector="a=b"))
    path = f"/apis/chatcluster.dev/v1alpha1/namespaces/{talk.namespace}/chatclusters/talk/scale"
    scale = json.loads(talk("get", f"--raw={path}"))
    assert scale["spec"] == {"replicas": 5}
    assert scale["status"] == {"replicas": 4, "selector": "a=b"}


def write_status(kubectl: Kubectl, status: Status) -> None:
    patch = json.dumps({"status": msgspec.to_builtins(status), "spec": {"pause": True}})
    kubectl("patch", "chat/talk", "--subresource=status", "--type=merge", f"--patch={patch}")


def test_the_status_is_written_apart_and_shown(talk: Kubectl) -> None:
    condition = Condition(
        type=ConditionType.AVAILABLE,
        status=Truth.TRUE,
        reason="EnoughReadyPods",
        observed_generation=1,
        last_transition_time=NOW,
    )
    status = Status(
        phase=Phase.RUNNING,
        conditions=[condition],
        chat_pods=ChatPodsStatus(desired=3, replicas=4, ready=2, draining=1, connections=1234),
        delivery=DeliveryStatus(p50_ms=1.5, p99_ms=20, checked_at=NOW),
        version="0.1.0",
    )
    write_status(talk, status)
    made = talk.get("chat/talk")
    assert made["spec"]["pause"] is False
    assert msgspec.convert(made["status"], Status) == status
    header, row = talk("get", "chat").splitlines()
    assert header.split() == [
        "NAME", "PHASE", "READY", "DESIRED", "CONNECTIONS", "DRAINING", "VERSION", "AGE",
    ]  # fmt: skip
    assert row.split()[:-1] == ["talk", "Running", "2", "3", "1234", "1", "0.1.0"]
    talk("wait", "chat/talk", "--for=condition=Available", "--timeout=10s")


def test_what_is_not_known_is_told_as_such(talk: Kubectl) -> None:
    write_status(talk, Status(chat_pods=ChatPodsStatus(connections=None)))
    assert talk.get("chat/talk")["status"]["chatPods"].get("connections") is None


def test_it_is_among_all_and_has_a_short_name(talk: Kubectl) -> None:
    assert "chatcluster.chatcluster.dev/talk" in talk("get", "all", "--output=name")
    assert talk("get", "chat", "--output=name") == "chatcluster.chatcluster.dev/talk\n"


@pytest.mark.parametrize("example", ["chatcluster.yaml", "chatcluster-production.yaml"])
def test_the_examples_are_taken(kubectl: Kubectl, example: str) -> None:
    kubectl("apply", "--server-side", "--dry-run=server", f"--filename={ROOT}/examples/{example}")
