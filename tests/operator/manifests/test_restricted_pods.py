"""Every pod is one that a namespace with the restricted Pod Security standard lets in."""

from __future__ import annotations

from typing import Any

import pytest
from support.manifest_samples import SMALL, SPECS, all_objects, chat_pod, cluster_of, pods_of

VOLUMES = {
    "configMap",
    "secret",
    "projected",
    "emptyDir",
    "persistentVolumeClaim",
    "downwardAPI",
    "ephemeral",
    "csi",
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_pods_are_restricted(spec: dict[str, Any]) -> None:
    for pod in pods_of(all_objects(cluster_of(spec))).values():
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        assert all(len(volume.keys() & VOLUMES) == 1 for volume in spec["volumes"])
        (container,) = spec["containers"]
        own = container["securityContext"]
        assert own == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


def test_no_pod_is_told_who_it_is_to_kubernetes() -> None:
    for pod in pods_of(all_objects(cluster_of(SMALL))).values():
        assert pod["spec"]["automountServiceAccountToken"] is False


def test_secrets_are_mounted_for_the_pods_group_alone() -> None:
    pod = chat_pod(cluster_of(SPECS["full"]))["spec"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    modes = [
        volume[kind]["defaultMode"]
        for volume in pod["volumes"]
        for kind in ("secret", "projected")
        if kind in volume
    ]
    assert modes == [0o440] * 4


def test_a_person_lays_contexts_over_the_restricted_one() -> None:
    laid_over = {
        "runAsUser": 2000,
        "supplementalGroups": [7],
        "readOnlyRootFilesystem": False,
        "seLinuxOptions": None,
    }
    pod = chat_pod(cluster_of({**SMALL, "chatPods": {"pod": {"securityContext": laid_over}}}))["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 2000,
        "runAsGroup": 65_532,
        "fsGroup": 65_532,
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroups": [7],
    }
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": False,
        "capabilities": {"drop": ["ALL"]},
    }
