"""All objects of a cluster but those that come and go with its chat pods."""

from __future__ import annotations

from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.spec import ChatCluster


def children(cluster: ChatCluster, inputs: Inputs) -> list[Manifest]:
    """In the order in which they are to be made, for server-side apply. Without Secrets (`keys.py`), the schema Job
    and what `chatpod.py` makes."""
    raise NotImplementedError
