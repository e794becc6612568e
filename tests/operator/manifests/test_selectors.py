"""Whatever selects pods finds all of its own, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from support.manifest_samples import SPECS, all_objects, chat_pod, cluster_of, of_kind, pods_of

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Manifest


def selects(labels: dict[str, str], pod: Manifest) -> bool:
    return labels.items() <= pod["metadata"]["labels"].items()


def selectors(objects: list[Manifest]) -> dict[str, tuple[str, dict[str, str]]]:
    """What each object selects: (component, labels)."""
    found = {}
    for one in objects:
        spec = one.get("spec", {})
        labels = {
            "Service": lambda spec: spec["selector"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        }.get(one["kind"])
        if labels is not None:
            component = one["metadata"]["labels"][names.LABEL_COMPONENT]
            found[f"{one['kind']} {one['metadata']['name']}"] = (component, labels(spec))
    return found


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_each_selects_the_pods_of_its_component_alone(spec: dict[str, Any]) -> None:
    objects = all_objects(cluster_of(spec))
    pods = pods_of(objects)
    for what, (component, labels) in selectors(objects).items():
        assert [name for name, pod in pods.items() if selects(labels, pod)] == [component], what


def test_clusters_in_one_namespace_leave_each_others_pods_alone() -> None:
    made = {
        name: [all_objects(cluster_of(spec, name)) for spec in SPECS.values()]
        for name in ("a", "a-chat", "b")
    }
    pods = {
        name: [pod for objects in every for pod in pods_of(objects).values()] for name, every in made.items()
    }
    for name, every in made.items():
        others = [pod for other in pods if other != name for pod in pods[other]]
        for objects in every:
            for what, (_, labels) in selectors(objects).items():
                assert not any(selects(labels, pod) for pod in others), what


def test_a_person_cannot_relabel_a_pod_out_of_its_cluster() -> None:
    stolen = {names.LABEL_CLUSTER: "other", names.LABEL_COMPONENT: "api", "team": "chat"}
    cluster = cluster_of({**SPECS["small"], "chatPods": {"pod": {"labels": stolen}}})
    labels = chat_pod(cluster)["metadata"]["labels"]
    assert labels["team"] == "chat"
    assert names.selector("talk", names.CHAT).items() <= labels.items()


def test_a_pods_own_service_selects_that_pod_alone() -> None:
    objects = all_objects(cluster_of(SPECS["gateway"]))
    pod = chat_pod(cluster_of(SPECS["gateway"]))
    service = of_kind(objects, "Service")[pod["metadata"]["name"]]
    assert selects(service["spec"]["selector"], pod)
    other = {"metadata": {"labels": {**pod["metadata"]["labels"], names.LABEL_POD: "another"}}}
    assert not selects(service["spec"]["selector"], other)


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_ports_that_are_named_are_the_pods(spec: dict[str, Any]) -> None:
    objects = all_objects(cluster_of(spec))
    pods = pods_of(objects)
    for service in of_kind(objects, "Service").values():
        for port in service["spec"]["ports"]:
            (pod,) = [pod for pod in pods.values() if selects(service["spec"]["selector"], pod)]
            ports = pod["spec"]["containers"][0]["ports"]
            assert port["targetPort"] in {one["name"] for one in ports} | {
                one["containerPort"] for one in ports
            }
    for pod in pods.values():
        container = pod["spec"]["containers"][0]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in container.get(kind, {}):
                assert container[kind]["httpGet"]["port"] in {one["name"] for one in container["ports"]}


def test_routes_lead_to_services_that_are_there() -> None:
    for spec in ("full", "gateway"):
        objects = all_objects(cluster_of(SPECS[spec]))
        services = of_kind(objects, "Service")
        for ingress in of_kind(objects, "Ingress").values():
            for path in ingress["spec"]["rules"][0]["http"]["paths"]:
                backend = path["backend"]["service"]
                ports = services[backend["name"]]["spec"]["ports"]
                assert backend["port"]["name"] in {port["name"] for port in ports}
        for route in of_kind(objects, "HTTPRoute").values():
            for backend in route["spec"]["rules"][0]["backendRefs"]:
                ports = services[backend["name"]]["spec"]["ports"]
                assert backend["port"] in {port["port"] for port in ports}
