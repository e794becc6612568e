"""The Services of a cluster: the API's, and those by which Prometheus finds the others' pods."""

from __future__ import annotations

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.spec import ChatCluster


def api(cluster: ChatCluster, inputs: Inputs) -> Manifest:
    return service(cluster, inputs, names.API, names.SERVICE_PORT, names.PORT_NAME)


def headless(cluster: ChatCluster, inputs: Inputs, component: str) -> Manifest:
    """Its pods' addresses, ready or not."""
    made = service(cluster, inputs, component, names.PORT, names.PORT_NAME)
    made["spec"] |= {"clusterIP": "None", "publishNotReadyAddresses": True}
    return made


def service(cluster: ChatCluster, inputs: Inputs, component: str, port: int, target: str | int) -> Manifest:
    """Of all pods of a component."""
    name = cluster.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(cluster, owner_of(cluster, inputs), names.of(name, component), component),
        "spec": {
            "type": "ClusterIP",
            "selector": names.selector(name, component),
            "ports": [{"name": names.PORT_NAME, "port": port, "protocol": "TCP", "targetPort": target}],
        },
    }
