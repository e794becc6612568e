"""The `ChatCluster` resource, typed once: what a person may ask for, with bounds, defaults, descriptions.

The YAML of the laptop and the Kubernetes resource are this same type; its descriptions become the reference
documentation. Field names are camelCase outside and snake_case here. The parts are in modules of their own; whoever
uses the resource takes them from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from chatoperator.spec_chat import (
    Auth,
    IssuerSpec,
    LimitsSpec,
    Presence,
    Receipts,
    Retention,
    duration_s,
)
from chatoperator.spec_outside import Exposure, ExposureTls, Gateway, Ingress, Media, Observability, Push
from chatoperator.spec_part import DnsLabel, ObjectName, SpecPart
from chatoperator.spec_pods import ApiPods, Autoscaling, ChatPods, Drain, Rebalance, Rollout, Worker
from chatoperator.spec_stores import MongoDb, PostgreSql, Redis, SecretKey, StorageZone, Tls, UrlFrom
from chatoperator.spec_template import EnvVar, PodTemplate, Resources, Toleration

__all__ = [
    "API_VERSION",
    "KIND",
    "ApiPods",
    "Auth",
    "Autoscaling",
    "ChatCluster",
    "ChatPods",
    "Drain",
    "EnvVar",
    "Exposure",
    "ExposureTls",
    "Gateway",
    "Ingress",
    "IssuerSpec",
    "LimitsSpec",
    "Media",
    "Metadata",
    "MongoDb",
    "Observability",
    "PodTemplate",
    "PostgreSql",
    "Presence",
    "Push",
    "Rebalance",
    "Receipts",
    "Redis",
    "Resources",
    "Retention",
    "Rollout",
    "SecretKey",
    "Spec",
    "StorageZone",
    "Tls",
    "Toleration",
    "UrlFrom",
    "Worker",
    "duration_s",
]

API_VERSION: Literal["chatcluster.dev/v1alpha1"] = "chatcluster.dev/v1alpha1"
KIND: Literal["ChatCluster"] = "ChatCluster"


class Spec(SpecPart, frozen=True):
    """What the cluster is to be."""

    image: Annotated[
        str,
        Meta(
            max_length=512,
            pattern=r"^\S*$",
            description="The container image of all pods; empty: the operator's own when the cluster is made, and "
            "then what ran well last, until `version` changes. Kubernetes only",
        ),
    ] = ""
    image_pull_policy: Annotated[
        Literal["IfNotPresent", "Always", "Never"], Meta(description="When nodes pull it. Kubernetes only")
    ] = "IfNotPresent"
    image_pull_secrets: Annotated[
        list[ObjectName], Meta(max_length=20, description="Secrets that it is pulled with. Kubernetes only")
    ] = []
    version: Annotated[
        str,
        Meta(
            max_length=64,
            description="A name for the release that pods run; a change makes new pods, and where `image` is empty "
            "they run the operator's own",
        ),
    ] = ""
    region: Annotated[DnsLabel, Meta(description="Where it runs; part of channel ids, never changed")] = (
        "local"
    )
    chat_pods: ChatPods = ChatPods()
    api_pods: ApiPods = ApiPods()
    worker: Worker = Worker()
    drain: Drain = Drain()
    rebalance: Rebalance = Rebalance()
    rollout: Rollout = Rollout()
    presence: Presence = Presence()
    receipts: Receipts = Receipts()
    limits: LimitsSpec = LimitsSpec()
    auth: Auth = Auth()
    redis: Redis = Redis()
    mongodb: Annotated[
        MongoDb | None, Meta(description="Where everything lives that may never be lost: a MongoDB")
    ] = None
    postgresql: Annotated[
        PostgreSql | None,
        Meta(
            description="The same in a PostgreSQL; beside `mongodb` only the directory of people (accounts, devices, "
            "friends, settings, jobs). Neither: SQLite in the data directory (laptop only)"
        ),
    ] = None
    media: Media = Media()
    push: Push = Push()
    retention: Retention = Retention()
    exposure: Annotated[
        Exposure | None,
        Meta(description="How clients from outside reach it; absent: only from inside. Kubernetes only"),
    ] = None
    observability: Observability = Observability()
    deletion_policy: Annotated[
        Literal["Keep", "Delete"],
        Meta(
            description="Whether the generated keys stay when the resource is deleted. What is in MongoDB or "
            "PostgreSQL always does. Kubernetes only"
        ),
    ] = "Keep"
    pause: Annotated[bool, Meta(description="The operator only watches and changes nothing")] = False


class Metadata(SpecPart, frozen=True):
    """The part of Kubernetes' object metadata that a person writes."""

    name: Annotated[DnsLabel, Meta(description="The cluster's name")]
    namespace: Annotated[str, Meta(max_length=63, description="Used on Kubernetes only")] = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ChatCluster(SpecPart, frozen=True):
    """One chat cluster."""

    api_version: Annotated[Literal["chatcluster.dev/v1alpha1"], Meta(description="Always this")]
    kind: Annotated[Literal["ChatCluster"], Meta(description="Always this")]
    metadata: Metadata
    spec: Spec = Spec()
