"""How many pods a drained node may take at once."""

from __future__ import annotations

from chatoperator.manifests import names
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.spec import ChatCluster


def budgets(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """One pod at a time, and a pod that is not ready at any time: so no drain waits for ever."""
    return [_budget(cluster, inputs, component) for component in (names.CHAT, names.API)]


def _budget(cluster: ChatCluster, inputs: Inputs, component: str) -> Manifest:
    name = cluster.metadata.name
    if component == names.CHAT and cluster.spec.chat_pods.autoscaling is not None:
        # The scale subresource tells `spec.chatPods.replicas`, which is not their number then.
        bound = {"minAvailable": max(0, inputs.chat_pods - 1)}
    else:
        # A number, so that Kubernetes asks the ChatCluster's scale subresource how many there should be.
        bound = {"maxUnavailable": 1}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(cluster, owner_of(cluster, inputs), names.of(name, component), component),
        "spec": {
            **bound,
            "selector": {"matchLabels": names.selector(name, component)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
