"""Who the pods are to Kubernetes: somebody who may do nothing."""

from __future__ import annotations

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.spec import ChatCluster

COMPONENT = "pods"


def account(cluster: ChatCluster, inputs: Inputs) -> Manifest:
    """One for all pods whose template names none. It has no rights, and its token is mounted nowhere."""
    name = names.pods_account(cluster.metadata.name)
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(cluster, owner_of(cluster, inputs), name, COMPONENT),
        "automountServiceAccountToken": False,
    }
