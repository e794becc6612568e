"""What a person may change of the pods themselves, the same for each kind of pod. Kubernetes only."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from chatoperator.spec_part import Annotations, EnvName, FreeObject, Labels, NameOrNone, Quantity, SpecPart

LabelText = Annotated[str, Meta(max_length=316)]


class EnvVar(SpecPart, frozen=True):
    """One environment variable of a pod."""

    name: Annotated[EnvName, Meta(description="Its name")]
    value: Annotated[str, Meta(max_length=4096, description="Its value")] = ""


EnvVars = Annotated[
    list[EnvVar],
    Meta(
        max_length=100,
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]


class Resources(SpecPart, frozen=True):
    """What the container is given."""

    requests: Annotated[
        dict[LabelText, Quantity],
        Meta(max_length=20, description="What the scheduler keeps free for it: `cpu`, `memory`, ..."),
    ] = {}
    limits: Annotated[
        dict[LabelText, Quantity],
        Meta(max_length=20, description="What it may use at most; none of `cpu` is best for latency"),
    ] = {}


class Toleration(SpecPart, frozen=True):
    """A taint of nodes that the pods bear."""

    key: Annotated[LabelText, Meta(description="Of the taint; empty with `Exists`: every taint")] = ""
    operator: Annotated[
        Literal["Equal", "Exists"], Meta(description="`Equal` compares the value, `Exists` ignores it")
    ] = "Equal"
    value: Annotated[str, Meta(max_length=63, description="Of the taint")] = ""
    effect: Annotated[
        Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
        Meta(description="Of the taint; empty: any"),
    ] = ""
    toleration_seconds: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None,
        Meta(description="How long `NoExecute` is borne; absent: for ever"),
    ] = None


class PodTemplate(SpecPart, frozen=True):
    """Laid over the pods that the operator makes. A change makes new pods."""

    annotations: Annotated[Annotations, Meta(max_length=100, description="Added to each pod")] = {}
    labels: Annotated[
        Labels, Meta(max_length=100, description="Added to each pod; the operator's own cannot be changed")
    ] = {}
    env: Annotated[EnvVars, Meta(description="Environment variables of the container")] = []
    resources: Resources = Resources()
    node_selector: Annotated[Labels, Meta(max_length=100, description="Labels that the node must have")] = {}
    tolerations: Annotated[
        list[Toleration], Meta(max_length=50, description="Taints of nodes that the pods bear")
    ] = []
    affinity: Annotated[
        FreeObject,
        Meta(description="Kubernetes' `affinity`; empty: pods of one kind keep apart where they can"),
    ] = {}
    topology_spread: Annotated[
        list[FreeObject],
        Meta(
            max_length=10,
            description="Kubernetes' `topologySpreadConstraints`; empty: even over zones and nodes, if possible",
        ),
    ] = []
    priority_class_name: Annotated[
        NameOrNone, Meta(description="The PriorityClass; empty: the namespace's default")
    ] = ""
    security_context: Annotated[
        FreeObject,
        Meta(description="Kubernetes' `securityContext` of the container, laid over the restricted default"),
    ] = {}
    service_account_name: Annotated[
        NameOrNone,
        Meta(description="Of a ServiceAccount that is there; empty: the operator makes one without rights"),
    ] = ""
