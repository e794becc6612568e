"""What the builders are told besides the resource: plain data, no secrets."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from chatoperator.manifests import names
from chatoperator.spec import API_VERSION, KIND, ChatCluster

Manifest: TypeAlias = dict[str, Any]
"""One Kubernetes object, as JSON says it."""


class DevelopmentImages(Struct, frozen=True):
    """What runs where a cluster says `development: true`. Empty: this operator has none."""

    redis: str = ""
    postgresql: str = ""
    mongodb: str = ""


class Inputs(Struct, frozen=True, kw_only=True):
    """`owner_uid`: of the ChatCluster. `image`: what its pods run where it names none."""

    owner_uid: str
    image: str
    operator_namespace: str
    """Where the operator runs: its pods may speak to the cluster's."""
    development: DevelopmentImages = DevelopmentImages()
    redis_ports: tuple[int, ...] = ()
    store_ports: tuple[int, ...] = ()
    """What pods may connect to, where Secrets hold the URLs (`ports.redis_ports`, `ports.store_ports` tell; of two
    stores those of both). Empty: any port."""
    chat_pods: int = 1
    """How many there are to be, where `spec.chatPods.autoscaling` decides."""


class Owner(Struct, frozen=True):
    """The object that others are collected with."""

    api_version: str
    kind: str
    name: str
    uid: str


def resolved(cluster: ChatCluster, inputs: Inputs) -> ChatCluster:
    """The resource with what it leaves to the operator filled in. Plan and builders are given this one, so that a
    revision is one of what really runs. Again is harmless."""
    if cluster.spec.image:
        return cluster
    spec = msgspec.structs.replace(cluster.spec, image=inputs.image)
    return msgspec.structs.replace(cluster, spec=spec)


def owner_of(cluster: ChatCluster, inputs: Inputs) -> Owner:
    return Owner(API_VERSION, KIND, cluster.metadata.name, inputs.owner_uid)


def owner_references(owner: Owner) -> list[Manifest]:
    """Collected in the background: nothing waits for them when the owner is deleted."""
    return [
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]


def metadata(cluster: ChatCluster, owner: Owner | None, name: str, component: str) -> Manifest:
    """Of an object of the cluster; without an owner it outlives the cluster."""
    meta: Manifest = {
        "name": name,
        "namespace": cluster.metadata.namespace,
        "labels": names.labels(cluster.metadata.name, component),
    }
    if owner is not None:
        meta["ownerReferences"] = owner_references(owner)
    return meta
