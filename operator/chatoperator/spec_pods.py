"""The kinds of pods of a cluster, and how they are scaled, drained, rebalanced and replaced."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from chatoperator.spec_part import SpecPart
from chatoperator.spec_template import EnvVars, PodTemplate


class Autoscaling(SpecPart, frozen=True):
    """Chat pods by their connections: as many as are needed to hold them at `targetUtilisation`."""

    min: Annotated[int, Meta(ge=1, le=1000, description="Chat pods at least")] = 2
    max: Annotated[int, Meta(ge=1, le=1000, description="Chat pods at most")] = 10
    target_utilisation: Annotated[
        float, Meta(ge=0.05, le=1, description="Of `connectionsPerPod`, how much is to be used")
    ] = 0.7
    headroom: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Connections that there is room for beyond that")
    ] = 0
    scale_down_stabilisation_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="Fewer pods only if fewer were enough for all of this time")
    ] = 300.0


class ChatPods(SpecPart, frozen=True):
    """The pods that hold the WebSockets."""

    replicas: Annotated[
        int, Meta(ge=1, le=1000, description="How many chat pods, unless `autoscaling` decides")
    ] = 2
    connections_per_pod: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Connections that discovery gives one pod at most")
    ] = 10_000
    hello_timeout_seconds: Annotated[
        float, Meta(gt=0, le=300, description="A connection that has not said hello after this is closed")
    ] = 10.0
    lease_seconds: Annotated[
        float,
        Meta(ge=1, le=300, description="A pod that is not heard of for this long is dead to discovery"),
    ] = 5.0
    env: Annotated[EnvVars, Meta(description="Environment variables of every chat pod")] = []
    autoscaling: Annotated[
        Autoscaling | None,
        Meta(description="By connections, on Kubernetes; absent: `replicas`, which `kubectl scale` changes"),
    ] = None
    termination_grace_period_seconds: Annotated[
        int,
        Meta(
            ge=5,
            le=7200,
            description="Until a pod that is deleted or evicted is killed: its drain has to fit in. Kubernetes only",
        ),
    ] = 60
    pod: PodTemplate = PodTemplate()


class ApiPods(SpecPart, frozen=True):
    """The pods that answer HTTP."""

    replicas: Annotated[int, Meta(ge=1, le=1000, description="How many API pods")] = 1
    port: Annotated[
        int, Meta(ge=0, le=65_535, description="The port that clients use; 0 takes any free one. Laptop only")
    ] = 8080
    pod: PodTemplate = PodTemplate()


class Worker(SpecPart, frozen=True):
    """The pods that do what must not sit on the hot path."""

    replicas: Annotated[int, Meta(ge=1, le=100, description="How many workers")] = 1
    pod: PodTemplate = PodTemplate()


class Drain(SpecPart, frozen=True):
    """How a chat pod that is going moves its clients. A change makes no new pods."""

    deadline_seconds: Annotated[
        float, Meta(gt=0, le=3600, description="After this what is left is closed, resumable")
    ] = 20.0
    rate_per_second: Annotated[
        float, Meta(gt=0, le=100_000, description="Clients told to move, per second")
    ] = 100.0


class Rebalance(SpecPart, frozen=True):
    """Moving clients to pods that came back or were added. A change makes no new pods."""

    tolerance: Annotated[
        float,
        Meta(ge=1.01, le=10, description="A pod above mean times this sheds what is above the mean"),
    ] = 1.25
    cooldown_seconds: Annotated[
        float,
        Meta(ge=1, le=86_400, description="From one round of shedding to the next; less than 12 is as 12"),
    ] = 30.0
    rate_per_second: Annotated[
        float, Meta(gt=0, le=100_000, description="Clients told to move, per second and pod")
    ] = 50.0


class Rollout(SpecPart, frozen=True):
    """How pods of a new revision replace the old ones. A change makes no new pods."""

    surge: Annotated[
        int, Meta(ge=1, le=100, description="Pods above the desired number while a revision is replaced")
    ] = 1
    gate: Annotated[
        bool, Meta(description="Go on only while messages are delivered (condition DeliveryHealthy)")
    ] = True
    undo: Annotated[
        bool, Meta(description="Go back to the last good revision when pods of the new one do not work")
    ] = True
    ready_deadline_seconds: Annotated[
        float, Meta(ge=5, le=3600, description="A new pod that is not ready after this has failed")
    ] = 60.0
    undo_after_failures: Annotated[
        int, Meta(ge=1, le=100, description="Pods of a new revision that fail before it is given up")
    ] = 3
