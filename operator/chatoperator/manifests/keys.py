"""The Secrets that the operator generates, once: they are created, never applied, and never overwritten.

What follows from the resource (labels, the owner) is applied to a Secret that is there, by `ownership`: server-side
apply without `data` leaves the data to who created it.
"""

from __future__ import annotations

from chatkernel.settings import SecretFile
from chatoperator.manifests.inputs import Inputs, Manifest
from chatoperator.spec import ChatCluster


def wanted(cluster: ChatCluster) -> list[str]:
    """The names of the Secrets that have to be there before pods can start."""
    raise NotImplementedError


def keys_secret(cluster: ChatCluster, keys: SecretFile) -> Manifest:
    """`names.keys`: what signs tokens and tickets. To be created."""
    raise NotImplementedError


def development_secret(cluster: ChatCluster, password: str) -> Manifest:
    """`names.development`: the password and the URLs of what `development: true` runs. To be created.

    `password`: letters, digits, - and _ only."""
    raise NotImplementedError


def ownership(cluster: ChatCluster, inputs: Inputs, name: str) -> Manifest:
    """What to apply to the generated Secret of this name, if it is there: one that is not would be made empty."""
    raise NotImplementedError
