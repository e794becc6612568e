"""The Secrets that the operator generates, once: they are created, or filled where one is empty; never applied, and
never overwritten.

What follows from the resource (labels, the owner) is applied to a Secret that is there, by `ownership`: server-side
apply without `data` leaves the data to who created it.
"""

from __future__ import annotations

import base64

import msgspec

from chatkernel.settings import SecretFile
from chatoperator.manifests import development, names, sources
from chatoperator.manifests.inputs import Inputs, Manifest, metadata, owner_of
from chatoperator.spec import ChatCluster

KEYS_COMPONENT, DEVELOPMENT_COMPONENT = "keys", "development"


def wanted(cluster: ChatCluster) -> list[str]:
    """The names of the Secrets that have to be generated before pods can start. Raises SourceError."""
    name = cluster.metadata.name
    needs_password = any(source.development for source in sources.servers(cluster))
    return [names.keys(name), *([names.development(name)] if needs_password else [])]


def keys_secret(cluster: ChatCluster, keys: SecretFile) -> Manifest:
    """`names.keys`: what signs tokens and tickets. To be created."""
    data = {names.KEYS_KEY: msgspec.json.encode(keys).decode()}
    return _secret(cluster, names.keys(cluster.metadata.name), KEYS_COMPONENT, data)


def development_secret(cluster: ChatCluster, password: str) -> Manifest:
    """`names.development`: the password and the URLs of what `development: true` runs. To be created. It has those of
    all that could be run, so that it fits whatever the resource says later.

    `password`: letters, digits, - and _ only."""
    name = names.development(cluster.metadata.name)
    return _secret(cluster, name, DEVELOPMENT_COMPONENT, development.secrets(cluster, password))


def ownership(cluster: ChatCluster, inputs: Inputs, name: str, uid: str) -> Manifest:
    """What to apply to the generated Secret of this name. With the UID of the one that is there, since applying to
    none would make an empty one: of a cluster that was deleted and is made again it may be collected at any moment.

    The keys outlive a cluster that is deleted with `deletionPolicy: Keep`; the passwords of what is run for trying
    out are of no use without it."""
    is_keys = name == names.keys(cluster.metadata.name)
    owned = not is_keys or cluster.spec.deletion_policy == "Delete"
    owner = owner_of(cluster, inputs) if owned else None
    component = KEYS_COMPONENT if is_keys else DEVELOPMENT_COMPONENT
    meta = {**metadata(cluster, owner, name, component), "uid": uid}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta}


def _secret(cluster: ChatCluster, name: str, component: str, data: dict[str, str]) -> Manifest:
    """Without an owner: that is said by `ownership`, which can take it back."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(cluster, None, name, component),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
