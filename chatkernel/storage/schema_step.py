"""What bringing a store to its schema takes, in steps that a person can read before they are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct


class StepKind(StrEnum):
    """What `ensure_schema` does with a step."""

    ADDS = "adds"
    """Done always: nothing that is there is touched."""
    REMOVES = "removes"
    """Done only when it is allowed; the store has what it needs without it."""
    REPLACES = "replaces"
    """Done only when it is allowed, and without it the store lacks something."""
    BY_HAND = "by hand"
    """Never done: a person has to decide."""


class SchemaStep(Struct, frozen=True):
    kind: StepKind
    does: str
    """What it does, or what is wrong, in words."""

    @property
    def destructive(self) -> bool:
        return self.kind in (StepKind.REMOVES, StepKind.REPLACES)

    @property
    def lacking(self) -> bool:
        """Whether the store is not as its schema says until this is done."""
        return self.kind is not StepKind.REMOVES


class Placement(Struct, frozen=True):
    """Where the channels of regions live, of a store that has shards: region to the shards of its zone (none:
    anywhere, but split)."""

    regions: Mapping[str, Sequence[str]] = {}


ANYWHERE = Placement()
