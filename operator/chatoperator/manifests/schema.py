"""The Job that makes the store's tables and indexes."""

from __future__ import annotations

from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.spec import ChatCluster


def job(cluster: ChatCluster, inputs: Inputs) -> Manifest:
    """Its name is another one whenever there may be something to do: another image, another store. It is never
    changed; of other names those with the component `schema` are done with."""
    raise NotImplementedError
