"""How clients from outside reach the API, and each chat pod: an Ingress or an HTTPRoute for each of them.

A route of its own for each pod comes and goes with the pod, and nobody has to write a list of all.
"""

from __future__ import annotations

from msgspec import Struct

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, Owner, metadata, owner_of
from chatoperator.spec import ChatCluster, Exposure, Gateway, Ingress


class Way(Struct, frozen=True):
    """A path of the host, and the Service that it leads to. `exact`: this path and none below it."""

    path: str
    exact: bool
    service: str
    port: int


def of_api(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """Everything that is no pod's path is the API's."""
    exposure = cluster.spec.exposure
    if exposure is None:
        return []
    name = names.of(cluster.metadata.name, names.API)
    meta = metadata(cluster, owner_of(cluster, inputs), name, names.API)
    return [_route(exposure, meta, Way("/", False, name, names.SERVICE_PORT))]


def of_pod(cluster: ChatCluster, pod_name: str, pod_uid: str) -> list[Manifest]:
    """A Service for one pod, and the way to it. Owned by the pod."""
    exposure = cluster.spec.exposure
    if exposure is None:
        return []
    meta = metadata(cluster, Owner("v1", "Pod", pod_name, pod_uid), pod_name, names.CHAT)
    port = {"name": names.PORT_NAME, "port": names.PORT, "protocol": "TCP", "targetPort": names.PORT_NAME}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {
            "type": "ClusterIP",
            "selector": {**names.selector(cluster.metadata.name, names.CHAT), names.LABEL_POD: pod_name},
            "ports": [port],
            # Discovery decides who is sent here; a pod that drains is still spoken to.
            "publishNotReadyAddresses": True,
        },
    }
    return [service, _route(exposure, meta, Way(names.pod_path(pod_name), True, pod_name, names.PORT))]


def _route(exposure: Exposure, meta: Manifest, way: Way) -> Manifest:
    if exposure.gateway is not None:
        return _http_route(exposure.host, exposure.gateway, meta, way)
    return _ingress(exposure, exposure.ingress or Ingress(), meta, way)


def _ingress(exposure: Exposure, ingress: Ingress, meta: Manifest, way: Way) -> Manifest:
    backend = {"service": {"name": way.service, "port": {"name": names.PORT_NAME}}}
    path = {"path": way.path, "pathType": "Exact" if way.exact else "Prefix", "backend": backend}
    spec: Manifest = {"rules": [{"host": exposure.host, "http": {"paths": [path]}}]}
    if ingress.class_name:
        spec["ingressClassName"] = ingress.class_name
    if exposure.tls is not None:
        tls: Manifest = {"hosts": [exposure.host]}
        if exposure.tls.secret_name:
            tls["secretName"] = exposure.tls.secret_name
        spec["tls"] = [tls]
    if ingress.annotations:
        meta = {**meta, "annotations": ingress.annotations}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}


def _http_route(host: str, gateway: Gateway, meta: Manifest, way: Way) -> Manifest:
    """With what its CRD fills in written out: these lists are compared whole."""
    parent: Manifest = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.name}
    if gateway.namespace:
        parent["namespace"] = gateway.namespace
    if gateway.section_name:
        parent["sectionName"] = gateway.section_name
    rule: Manifest = {
        "matches": [{"path": {"type": "Exact" if way.exact else "PathPrefix", "value": way.path}}],
        "backendRefs": [{"group": "", "kind": "Service", "name": way.service, "port": way.port, "weight": 1}],
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": meta,
        "spec": {"parentRefs": [parent], "hostnames": [host], "rules": [rule]},
    }
