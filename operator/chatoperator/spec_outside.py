"""How a cluster meets what is around it on Kubernetes: how clients reach it, and who watches it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from chatoperator.spec_part import Annotations, Labels, NameOrNone, ObjectName, SpecPart

Host = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class ExposureTls(SpecPart, frozen=True):
    """Clients come by TLS: URLs begin with https and wss."""

    secret_name: Annotated[
        NameOrNone,
        Meta(
            description="The Secret with the Ingress's certificate; empty: the controller's own, or that of the "
            "Gateway's listener"
        ),
    ] = ""


class Ingress(SpecPart, frozen=True):
    """An Ingress for the API, and one for each chat pod."""

    class_name: Annotated[NameOrNone, Meta(description="The IngressClass; empty: the default one")] = ""
    annotations: Annotated[
        Annotations, Meta(max_length=100, description="For its controller; sockets need long read time-outs")
    ] = {}


class Gateway(SpecPart, frozen=True):
    """A Gateway that the HTTPRoutes of the API and of each chat pod belong to."""

    name: Annotated[ObjectName, Meta(description="The Gateway")]
    namespace: Annotated[
        Annotated[str, Meta(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")],
        Meta(description="Its namespace; empty: the cluster's own"),
    ] = ""
    section_name: Annotated[NameOrNone, Meta(description="One of its listeners; empty: all of them")] = ""


class Exposure(SpecPart, frozen=True):
    """How clients from outside of Kubernetes reach the cluster: by an Ingress or a Gateway."""

    host: Annotated[Host, Meta(description="The DNS name that clients use")]
    tls: Annotated[ExposureTls | None, Meta(description="Clients come by TLS; absent: without")] = None
    ingress: Annotated[Ingress | None, Meta(description="By an Ingress")] = None
    gateway: Annotated[Gateway | None, Meta(description="By a Gateway, instead of an Ingress")] = None


class Observability(SpecPart, frozen=True):
    """Who watches."""

    service_monitor: Annotated[
        bool, Meta(description="Make a ServiceMonitor for Prometheus' operator, if Kubernetes knows the kind")
    ] = False
    labels: Annotated[
        Labels, Meta(max_length=100, description="Of the ServiceMonitor, by which Prometheus finds it")
    ] = {}


class Media(SpecPart, frozen=True):
    """Reserved: files and pictures. Nothing can be set yet."""


class Push(SpecPart, frozen=True):
    """Reserved: push notifications. Nothing can be set yet."""
