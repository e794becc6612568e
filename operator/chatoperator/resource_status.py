"""What a `ChatCluster` says of itself in `status`. Typed once, for whoever writes it and for the schema.

Times are RFC 3339 in UTC, with seconds: `2026-01-31T12:00:00Z`. What is not known is null, never a guess.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Number = Annotated[int, Meta(ge=0, le=2_147_483_647)]
Generation = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Milliseconds = Annotated[float, Meta(ge=0, le=86_400_000)]
Time = Annotated[
    str,
    Meta(
        max_length=40, pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", extra_json_schema={"format": "date-time"}
    ),
]
Sentence = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(max_length=253)]


class Phase(StrEnum):
    """The state of a cluster in one word."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    PAUSED = "Paused"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """What a condition is about. Every cluster has all of them, once it was looked at."""

    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    STORAGE_READY = "StorageReady"
    REGISTRY_READY = "RegistryReady"
    DELIVERY_HEALTHY = "DeliveryHealthy"
    PAUSED = "Paused"


class Truth(StrEnum):
    """The status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class StatusPart(Struct, frozen=True, rename="camel"):
    """Immutable, and compared by value. What a later version has written does not hinder."""


class Condition(StatusPart, frozen=True, kw_only=True):
    """One thing that is so, or is not."""

    type: Annotated[ConditionType, Meta(description="What it is about")]
    status: Annotated[Truth, Meta(description="Whether it is so")]
    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=64,
            pattern=r"^[A-Z][A-Za-z]*$",
            description="Why, in one word of the documented list",
        ),
    ]
    message: Annotated[Sentence, Meta(description="Why, and what to do next, for people")] = ""
    observed_generation: Annotated[
        Generation, Meta(description="The `metadata.generation` that this is about")
    ] = 0
    last_transition_time: Annotated[Time, Meta(description="Since when the status is what it is")]


class ChatPodsStatus(StatusPart, frozen=True):
    """The chat pods."""

    desired: Annotated[Number, Meta(description="How many there are to be")] = 0
    replicas: Annotated[Number, Meta(description="How many there are, those that go included")] = 0
    ready: Annotated[Number, Meta(description="How many take connections")] = 0
    draining: Annotated[Number, Meta(description="How many are moving their clients away")] = 0
    connections: Annotated[
        Number | None, Meta(description="Connections to all of them; null: a pod has not told")
    ] = None


class PodsStatus(StatusPart, frozen=True):
    """The pods of another kind."""

    desired: Annotated[Number, Meta(description="How many there are to be")] = 0
    ready: Annotated[Number, Meta(description="How many are ready")] = 0


class RevisionStatus(StatusPart, frozen=True):
    """A revision of chat pods that has pods, is current, or was given up."""

    revision: Annotated[Name, Meta(description="Its name, which is in its pods' names")]
    version: Annotated[Name, Meta(description="The release that it runs")] = ""
    current: Annotated[bool, Meta(description="Whether the spec asks for it")] = False
    pods: Annotated[Number, Meta(description="Its pods")] = 0
    ready: Annotated[Number, Meta(description="How many of them are ready")] = 0
    failed: Annotated[bool, Meta(description="Whether it was given up")] = False
    message: Annotated[Sentence, Meta(description="What is wrong with it")] = ""


class ScalingStatus(StatusPart, frozen=True):
    """The last decision about the number of chat pods."""

    at: Annotated[Time, Meta(description="When")]
    from_: Annotated[Number, Meta(description="From how many")]
    to: Annotated[Number, Meta(description="To how many")]
    reason: Annotated[Sentence, Meta(description="Why")] = ""


class UndoneStatus(StatusPart, frozen=True):
    """The revision that was given up last."""

    revision: Annotated[Name, Meta(description="Its name")]
    at: Annotated[Time, Meta(description="When")]
    reason: Annotated[Sentence, Meta(description="Why")] = ""


class DeliveryStatus(StatusPart, frozen=True, kw_only=True):
    """What the delivery probe measures: messages of people of its own, from each chat pod to all others."""

    p50_ms: Annotated[Milliseconds | None, Meta(description="Half arrive within this")] = None
    p99_ms: Annotated[Milliseconds | None, Meta(description="99 of 100 arrive within this")] = None
    gaps: Annotated[Number, Meta(description="Messages that did not arrive in time, in the last minute")] = 0
    checked_at: Annotated[Time, Meta(description="When the probe said so; a later time alone is not written")]


class Status(StatusPart, frozen=True):
    """How the cluster is. Written by the operator alone."""

    observed_generation: Annotated[
        Generation, Meta(description="The `metadata.generation` that all of this is about")
    ] = 0
    phase: Annotated[Phase, Meta(description="The state in one word")] = Phase.PENDING
    conditions: Annotated[
        list[Condition],
        Meta(
            max_length=20,
            description="What is so, and why",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    chat_pods: ChatPodsStatus = ChatPodsStatus()
    api_pods: Annotated[PodsStatus, Meta(description="The API pods")] = PodsStatus()
    worker: Annotated[PodsStatus, Meta(description="The workers")] = PodsStatus()
    revisions: Annotated[
        list[RevisionStatus],
        Meta(
            max_length=50,
            description="Revisions of chat pods",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["revision"]},
        ),
    ] = []
    selector: Annotated[
        str, Meta(max_length=1024, description="Selects the chat pods, for `/scale` and disruption budgets")
    ] = ""
    url: Annotated[str, Meta(max_length=2048, description="Where clients reach the API")] = ""
    version: Annotated[Name, Meta(description="The release that the pods of the current revision run")] = ""
    image: Annotated[
        str, Meta(max_length=512, description="The container image that the current revision runs")
    ] = ""
    last_scaling: Annotated[
        ScalingStatus | None, Meta(description="The last decision about the number of chat pods")
    ] = None
    undone: Annotated[UndoneStatus | None, Meta(description="The revision that was given up last")] = None
    delivery: Annotated[DeliveryStatus | None, Meta(description="What the delivery probe measures")] = None
