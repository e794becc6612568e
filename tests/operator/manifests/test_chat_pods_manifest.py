"""A chat pod: one that is never started again, knows itself, and is as its revision was kept."""

from __future__ import annotations

import copy
from typing import Any

from support.manifest_samples import FULL, INPUTS, SMALL, chat_pod, cluster_of

from chatoperator.manifests import chatpod, names
from chatoperator.manifests.inputs import Inputs, Owner, resolved
from chatoperator.model import PodKind
from chatoperator.revision import revision_of

PAIRS = {"chatPods": {"pod": {"env": [{"name": "A", "value": "template"}, {"name": "B"}]}}}


def container(spec: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = chat_pod(cluster_of(spec))["spec"]["containers"][0]
    return made


def test_a_dead_pod_stays_dead_and_has_its_time_to_drain() -> None:
    pod = chat_pod(cluster_of(FULL))["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] == 120


def test_no_probe_ends_a_pod_for_what_redis_or_the_store_does() -> None:
    made = container(SMALL)
    live = made["livenessProbe"]
    assert live["httpGet"]["path"] == "/healthz", "asks the process alone"
    assert live["periodSeconds"] * live["failureThreshold"] >= 30
    assert live["terminationGracePeriodSeconds"] < 60, "a process that hangs does not drain"
    start = made["startupProbe"]
    assert start["httpGet"]["path"] == "/healthz"
    assert start["periodSeconds"] * start["failureThreshold"] >= 300, "the plan gives up on a pod long before"
    assert made["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert made["readinessProbe"]["periodSeconds"] == 1, "a new pod is to be of use at once"


def test_a_revision_is_kept_whole() -> None:
    cluster = cluster_of(FULL)
    settings, kept = chatpod.revision_objects(cluster, INPUTS)
    revision = revision_of(resolved(cluster, INPUTS).spec, PodKind.CHAT)
    assert settings["metadata"]["name"] == kept["metadata"]["name"] == f"talk-chat-{revision}"
    assert settings["immutable"] is True
    assert kept["apiVersion"] == "apps/v1"
    template = chatpod.template_of(kept)
    before = copy.deepcopy(template)
    owner = Owner("chatcluster.dev/v1alpha1", "ChatCluster", "talk", "another-uid")
    pod = chatpod.pod(template, "talk-chat-x", owner)
    assert template == before, "pods are copies"
    assert pod["metadata"]["name"] == pod["metadata"]["labels"][names.LABEL_POD] == "talk-chat-x"
    assert pod["metadata"]["labels"][names.LABEL_REVISION] == revision
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "another-uid"
    assert pod["spec"] == template["spec"]
    mounted = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "settings")
    assert mounted["configMap"]["name"] == settings["metadata"]["name"]


def test_the_operators_image_is_part_of_the_revision_unless_the_resource_names_one() -> None:
    upgraded = Inputs(owner_uid="u", image="registry.example/chatcluster:9", operator_namespace="n")
    small, full = cluster_of(SMALL), cluster_of(FULL)
    assert chat_pod(small)["spec"]["containers"][0]["image"] == INPUTS.image
    assert chat_pod(small, upgraded)["metadata"]["name"] != chat_pod(small)["metadata"]["name"]
    assert chat_pod(full, upgraded)["metadata"]["name"] == chat_pod(full)["metadata"]["name"]


def test_a_pod_knows_its_name_and_address_whatever_a_person_sets() -> None:
    env = [
        {"name": "CHAT_POD", "value": "forged"},
        {"name": "A", "value": "pods"},
        {"name": "C", "value": "$(CHAT_POD)"},
    ]
    made = container({**SMALL, "chatPods": {"env": env, **PAIRS["chatPods"]}})["env"]
    assert made == [
        {"name": "CHAT_POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "CHAT_POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        {"name": "CHAT_CONFIG", "value": "/etc/chat/settings/settings.json"},
        {"name": "A", "value": "template"},
        {"name": "C", "value": "$(CHAT_POD)"},
        {"name": "B"},
    ]


def test_a_persons_template_is_laid_over() -> None:
    pod = chat_pod(cluster_of(FULL))
    spec, made = pod["spec"], pod["spec"]["containers"][0]
    assert pod["metadata"]["labels"]["team"] == "chat"
    assert pod["metadata"]["annotations"]["example.com/note"] == "sockets"
    assert made["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert spec["nodeSelector"] == {"pool": "chat"}
    assert spec["tolerations"] == [
        {"key": "pool", "operator": "Equal", "value": "chat", "effect": "NoSchedule"}
    ]
    assert spec["priorityClassName"] == "chat"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    (spread,) = spec["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["labelSelector"] == {"matchLabels": names.selector("talk", names.CHAT)}


def test_pods_are_spread_over_zones_and_nodes_unless_a_person_says_otherwise() -> None:
    spread = chat_pod(cluster_of(SMALL))["spec"]["topologySpreadConstraints"]
    assert [(one["topologyKey"], one["whenUnsatisfiable"]) for one in spread] == [
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
        ("kubernetes.io/hostname", "ScheduleAnyway"),
    ]


def test_memory_follows_from_the_connections_a_pod_is_given() -> None:
    def memory(connections: int) -> tuple[str, str]:
        given = container({**SMALL, "chatPods": {"connectionsPerPod": connections}})["resources"]
        assert "cpu" not in given["limits"]
        return given["requests"]["memory"], given["limits"]["memory"]

    assert memory(10_000) == ("284Mi", "1137Mi")
    assert memory(100_000) == ("1690Mi", "6762Mi")
