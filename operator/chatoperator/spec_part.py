"""What all parts of the resource are made of: the base of its types, and kinds of values with their bounds."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Rate = Annotated[float, Meta(gt=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=256, le=16 * 1024 * 1024)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Url = Annotated[str, Meta(min_length=1, max_length=2048)]
EnvName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Duration = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}[hd]$", max_length=5)]
DnsLabel = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
ObjectName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
"""The name of an object on Kubernetes."""
NameOrNone = Annotated[
    str, Meta(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$")
]
Quantity: TypeAlias = (
    Annotated[int, Meta(ge=0, le=1 << 50)]
    | Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$", max_length=32)]
)
"""An amount as Kubernetes writes it: `2`, `500m`, `1Gi`."""
FreeObject: TypeAlias = dict[str, Any]
"""Handed to Kubernetes as it is, which checks it when pods are made."""
Annotations: TypeAlias = dict[str, Annotated[str, Meta(max_length=4096)]]
Labels: TypeAlias = dict[
    str, Annotated[str, Meta(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
]


class SpecPart(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Immutable, compared by value, and nothing unknown gets in."""
