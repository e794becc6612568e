"""What the pods of a cluster are told: which settings go into which ConfigMap."""

from __future__ import annotations

from chatoperator.spec import ChatCluster


def live_hash(cluster: ChatCluster) -> str:
    """Of the live settings: the value of the annotation `names.LIVE`."""
    raise NotImplementedError
