"""Fake nodes beside real ones: kwok says that their pods run, and nothing does. For numbers, not for behaviour."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cluster.machine import programs
from cluster.machine.layout import Layout, entering
from cluster.machine.processes import Processes

NAME = "kwok"
ANNOTATION = ("kwok.x-k8s.io/node", "fake")
TAINT = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""What is to run on fake nodes tolerates this; nothing else comes there."""
LEASE_S = 40


class Kwok:
    def __init__(self, layout: Layout, processes: Processes) -> None:
        self._layout, self._processes = layout, processes

    def start(self) -> None:
        """Built when it is first asked for."""
        built = programs.kwok()
        self._processes.start(
            NAME,
            [
                *entering(self._layout.name),
                built / "kwok",
                f"--kubeconfig={self._layout.kubeconfig_of(NAME)}",
                f"--config={built / 'stages.yaml'}",
                "--manage-all-nodes=false",
                f"--manage-nodes-with-annotation-selector={'='.join(ANNOTATION)}",
                f"--node-lease-duration-seconds={LEASE_S}",
                "--server-address=127.0.0.1:10247",
            ],
        )

    def stop(self) -> None:
        self._processes.stop([NAME])


def fake_nodes(names: Sequence[str], pods: int = 110) -> str:
    """Manifests of fake nodes, for `kubectl apply`."""
    capacity = {"cpu": "64", "memory": "256Gi", "pods": str(pods)}
    items = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": dict([ANNOTATION]),
                "labels": {"type": NAME, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            },
            "spec": {"taints": [TAINT]},
            "status": {"allocatable": capacity, "capacity": capacity},
        }
        for name in names
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
