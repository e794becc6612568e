"""HTTPRoutes on a Kubernetes that knows none: a definition that takes them, and nobody who acts by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.kit.kubectl import Kubectl

NAME = "httproutes.gateway.networking.k8s.io"
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": NAME,
        # Names that end so are Kubernetes' own to give.
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests only"},
    },
    "spec": {
        "group": "gateway.networking.k8s.io",
        "scope": "Namespaced",
        "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": _ANYTHING, "status": _ANYTHING},
                    }
                },
            }
        ],
    },
}


@contextmanager
def http_routes() -> Iterator[None]:
    """Kubernetes knows the kind: as before where it is installed, else for as long as this lasts."""
    kubectl = Kubectl("default")
    is_there = bool(kubectl("get", "crd", NAME, "--ignore-not-found", "--output=name"))
    if not is_there:
        kubectl.apply(DEFINITION)
        kubectl("wait", f"crd/{NAME}", "--for=condition=Established", "--timeout=30s")
    try:
        yield
    finally:
        if not is_there:
            kubectl.delete(DEFINITION)
