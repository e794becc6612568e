"""The kinds of object that the operator reads and writes, and where the API server has them."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import quote

from msgspec import Struct

from chatoperator.manifests.names import GROUP, PLURAL, VERSION

Object: TypeAlias = dict[str, Any]
"""An object as the API server speaks of it: its wire format, not passed on as a value of ours."""


class Kind(Struct, frozen=True):
    """`optional`: the API server may not have it, or the operator not be allowed to see it, and that is all right."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True
    optional: bool = False

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Without a namespace: of all of them."""
        root = "/apis" if "/" in self.api_version else "/api"
        parts = [root, self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [self.plural, quote(name, safe=""), subresource]
        return "/".join(part for part in parts if part)


CHAT_CLUSTER = Kind(f"{GROUP}/{VERSION}", "ChatCluster", PLURAL)
POD = Kind("v1", "Pod", "pods")
NODE = Kind("v1", "Node", "nodes", namespaced=False, optional=True)
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
JOB = Kind("batch/v1", "Job", "jobs")
PDB = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", optional=True)
SERVICE_MONITOR = Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", optional=True)
EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

CHILDREN = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    DEPLOYMENT,
    CONTROLLER_REVISION,
    JOB,
    PDB,
    NETWORK_POLICY,
    INGRESS,
    HTTP_ROUTE,
    SERVICE_MONITOR,
)
"""Watched by our label. Chat pods and Secrets are looked at in ways of their own."""

KINDS = {
    (kind.api_version, kind.name): kind for kind in (CHAT_CLUSTER, POD, NODE, SECRET, *CHILDREN, EVENT, LEASE)
}


def kind_of(manifest: Object) -> Kind:
    """KeyError for a kind that the operator does not handle."""
    return KINDS[manifest["apiVersion"], manifest["kind"]]


def name_of(manifest: Object) -> str:
    return str(manifest["metadata"]["name"])


def namespace_of(manifest: Object) -> str:
    return str(manifest["metadata"].get("namespace", ""))


def labels_of(manifest: Object) -> dict[str, str]:
    return manifest["metadata"].get("labels") or {}


def annotations_of(manifest: Object) -> dict[str, str]:
    return manifest["metadata"].get("annotations") or {}


def uid_of(manifest: Object) -> str:
    return str(manifest["metadata"].get("uid", ""))


def version_of(manifest: Object) -> int:
    """Its resource version. Since Kubernetes 1.35 it is documented that they can be compared as numbers, and they
    always could with etcd; what is none is 0, older than everything."""
    try:
        return int(manifest["metadata"].get("resourceVersion", 0))
    except ValueError:
        return 0


def owner_uids(manifest: Object) -> set[str]:
    return {str(owner.get("uid")) for owner in manifest["metadata"].get("ownerReferences") or []}
