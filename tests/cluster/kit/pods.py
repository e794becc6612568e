"""Plain pods, for tests of what is round them; each keeps to Pod Security's strictest level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.machine.images import PRODUCT, PRODUCT_TAG

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
IMAGE = f"{PRODUCT}:{PRODUCT_TAG}"


def pod(
    name: str,
    command: Sequence[str],
    *,
    image: str = IMAGE,
    node: str = "",
    labels: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    folders: Sequence[str] = (),
    probe: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A manifest. `folders` can be written to; `probe` is its readiness. No `node`: the scheduler chooses."""
    volumes = [{"name": f"folder-{number}", "emptyDir": {}} for number in range(len(folders))]
    mounts = [{"name": f"folder-{number}", "mountPath": path} for number, path in enumerate(folders)]
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "securityContext": RESTRICTED,
        "volumeMounts": mounts,
        **({"command": list(command)} if command else {}),
        **({"readinessProbe": probe | {"periodSeconds": 1}} if probe else {}),
    }
    spec = {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": spec,
    }


def web(name: str, port: int = 8080, **more: Any) -> dict[str, Any]:
    """A pod that answers HTTP."""
    probe = {"httpGet": {"path": "/", "port": port}}
    return pod(name, ["python3", "-m", "http.server", str(port), "--directory", "/tmp"], probe=probe, **more)


def service(name: str, selector: dict[str, str], port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": [{"port": port}]},
    }
