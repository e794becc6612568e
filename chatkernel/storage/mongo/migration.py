"""What a database lacks of the schema: a pure comparison of what was observed with what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chatkernel.storage.mongo.schema import COLLECTIONS, CollectionSpec, IndexSpec

INITIAL_CHUNKS = 16
"""Into how many ranges a region's channels are split when a collection is sharded, per kind of channel: their ids are
evenly spread hexadecimal digests."""

_CHANNEL_KINDS = ("g", "p")


@dataclass(frozen=True, slots=True)
class ObservedIndex:
    fields: tuple[str, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """Of a database. `sharded`: collection to shard key; empty off a router."""

    version: int | None
    router: bool
    indexes: Mapping[str, Mapping[str, ObservedIndex]]
    sharded: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Zone to the shards that have it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the channels of regions live: region to the shards of its zone (none: anywhere)."""

    regions: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateIndex:
    collection: str
    index: IndexSpec

    def __str__(self) -> str:
        unique = "unique " if self.index.unique else ""
        return f"create {unique}index {self.index.name} on {self.collection}"


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Destroys nothing that cannot be made again, but what needs it is slow until then, and a unique one guards."""

    collection: str
    name: str
    replaced: bool
    """By one of the same name that is made next."""

    def __str__(self) -> str:
        return f"drop index {self.name} of {self.collection}" + (" (it differs)" if self.replaced else "")


@dataclass(frozen=True, slots=True)
class Shard:
    collection: str
    key: str
    split_at: tuple[str, ...]

    def __str__(self) -> str:
        splits = f", split at {len(self.split_at)} points" if self.split_at else ""
        return f"shard {self.collection} by {self.key}{splits}"


@dataclass(frozen=True, slots=True)
class AddToZone:
    shard: str
    zone: str

    def __str__(self) -> str:
        return f"add shard {self.shard} to zone {self.zone}"


@dataclass(frozen=True, slots=True)
class KeepNear:
    """The channels of a region belong to its zone."""

    collection: str
    key: str
    region: str

    def __str__(self) -> str:
        return f"keep {self.collection} of region {self.region} in its zone"


Action = CreateIndex | DropIndex | Shard | AddToZone | KeepNear


def plan(observed: Observed, placement: Placement) -> list[Action]:
    """In the order in which they are to be done: an index before the sharding that needs it, zones before the
    chunks that are to move. What is there and right is not touched; indexes that nobody declared are left alone,
    for somebody made them on purpose."""
    actions: list[Action] = []
    for spec in COLLECTIONS:
        there = observed.indexes.get(spec.name, {})
        for index in spec.indexes:
            found = there.get(index.name)
            if found == ObservedIndex(index.fields, index.unique):
                continue
            if found is not None:
                actions.append(DropIndex(spec.name, index.name, replaced=True))
            actions.append(CreateIndex(spec.name, index))
    if observed.router:
        actions += _placing(observed, placement)
    return actions


def _placing(observed: Observed, placement: Placement) -> list[Action]:
    actions: list[Action] = []
    for region, shards in placement.regions.items():
        has = observed.zones.get(region, frozenset())
        actions += [AddToZone(shard, region) for shard in shards if shard not in has]
    for spec in COLLECTIONS:
        if spec.name in observed.sharded:
            continue
        by_channel = is_by_channel(spec)
        splits = split_points(placement) if by_channel else ()
        actions.append(Shard(spec.name, spec.shard_key, splits))
        if by_channel:
            actions += [
                KeepNear(spec.name, spec.shard_key, region)
                for region, shards in placement.regions.items()
                if shards
            ]
    return actions


def is_by_channel(spec: CollectionSpec) -> bool:
    return spec.shard_key == "channel_id" or spec.by_id == "channel_id"


def split_points(placement: Placement) -> tuple[str, ...]:
    return tuple(
        f"{region}_{kind}{number:x}" if number else f"{region}_{kind}"
        for region in sorted(placement.regions)
        for kind in _CHANNEL_KINDS
        for number in range(INITIAL_CHUNKS)
    )
