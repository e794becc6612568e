"""All objects of a cluster but those that come and go with its chat pods."""

from __future__ import annotations

from chatoperator.manifests import (
    accounts,
    deployments,
    development,
    disruption,
    exposure,
    monitoring,
    names,
    network,
    services,
    settings,
)
from chatoperator.manifests.inputs import Inputs, Manifest, resolved
from chatoperator.spec import ChatCluster


def children(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """In the order in which they are to be made, for server-side apply: what pods need, and who may speak to them,
    comes before the pods. Without Secrets (`keys.py`), the schema Job and what `chatpod.py` makes.

    Raises SourceError."""
    cluster = resolved(cluster, inputs)
    api = services.api(cluster, inputs)
    if cluster.spec.observability.service_monitor:
        monitoring.mark(api)
    return [
        accounts.account(cluster, inputs),
        settings.live_map(cluster, inputs),
        *(settings.settings_map(cluster, inputs, one) for one in (names.API, names.WORKER, names.PROBE)),
        *network.policies(cluster, inputs),
        *disruption.budgets(cluster, inputs),
        api,
        *development.objects(cluster, inputs),
        *deployments.deployments(cluster, inputs),
        *exposure.of_api(cluster, inputs),
        *monitoring.objects(cluster, inputs),
    ]
