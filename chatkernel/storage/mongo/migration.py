"""What a database lacks of the schema: a pure comparison of what was observed with what is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chatkernel.storage.mongo.schema import COLLECTIONS, SCHEMA_VERSION, CollectionSpec, IndexSpec
from chatkernel.storage.schema_step import Placement, StepKind

INITIAL_CHUNKS = 16
"""Into how many ranges a region's channels are split when a collection is sharded, per kind of channel: their ids are
evenly spread hexadecimal digests."""

_CHANNEL_KINDS = ("g", "p")


@dataclass(frozen=True, slots=True)
class ObservedIndex:
    """`odd`: it has options or directions that none of ours has. `apart`: these make the server take it for another
    index than ours of the same fields, so that both can be there."""

    fields: tuple[str, ...]
    unique: bool
    odd: bool = False
    apart: bool = True

    def serves(self, index: IndexSpec) -> bool:
        return not self.odd and (self.fields, self.unique) == (index.fields, index.unique)

    def stands_in_the_way(self, index: IndexSpec) -> bool:
        return self.odd and not self.apart and (self.fields, self.unique) == (index.fields, index.unique)


@dataclass(frozen=True, slots=True)
class Observed:
    """Of a database. `sharded`: collection to shard key; empty off a router."""

    version: int | None
    router: bool
    indexes: Mapping[str, Mapping[str, ObservedIndex]]
    sharded: Mapping[str, str] = field(default_factory=dict)
    zones: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Zone to the shards that have it."""
    shards: tuple[str, ...] = ()
    kept_near: frozenset[tuple[str, str]] = frozenset()
    """Collection and region of the ranges that belong to the region's zone."""
    split: frozenset[tuple[str, str]] = frozenset()
    """Collection and region that are split already."""


@dataclass(frozen=True, slots=True)
class CreateIndex:
    collection: str
    index: IndexSpec
    name: str

    kind = StepKind.ADDS

    def __str__(self) -> str:
        unique = "unique " if self.index.unique else ""
        return f"create {unique}index {self.name} on {self.collection} ({', '.join(self.index.fields)})"


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Destroys nothing that cannot be made again, but whoever made it had a reason."""

    collection: str
    name: str
    found: ObservedIndex

    kind = StepKind.REMOVES

    def __str__(self) -> str:
        return f"drop index {self.name} of {self.collection}: it is not of this schema"


@dataclass(frozen=True, slots=True)
class ReplaceIndex:
    """Between drop and create what needs it is slow, and a unique one guards nothing."""

    collection: str
    index: IndexSpec
    name: str
    found: ObservedIndex

    kind = StepKind.REPLACES

    def __str__(self) -> str:
        return f"drop index {self.name} of {self.collection} and make it anew: its options differ"


@dataclass(frozen=True, slots=True)
class Shard:
    collection: str
    key: str

    kind = StepKind.ADDS

    def __str__(self) -> str:
        return f"shard {self.collection} by {self.key}"


@dataclass(frozen=True, slots=True)
class Split:
    """Before there is anything in it. The pieces go round the shards: a balancer that goes by size moves no empty
    ones."""

    collection: str
    key: str
    region: str
    shards: tuple[str, ...]

    kind = StepKind.ADDS

    def __str__(self) -> str:
        points = len(split_points(self.region))
        return f"split {self.collection} of region {self.region} at {points} points over {', '.join(self.shards)}"


@dataclass(frozen=True, slots=True)
class AddToZone:
    shard: str
    zone: str

    kind = StepKind.ADDS

    def __str__(self) -> str:
        return f"add shard {self.shard} to zone {self.zone}"


@dataclass(frozen=True, slots=True)
class KeepNear:
    """The channels of a region belong to its zone."""

    collection: str
    key: str
    region: str

    kind = StepKind.ADDS

    def __str__(self) -> str:
        return f"keep {self.collection} of region {self.region} in its zone"


@dataclass(frozen=True, slots=True)
class WrongKey:
    collection: str
    key: str
    wanted: str

    kind = StepKind.BY_HAND

    def __str__(self) -> str:
        return (
            f"{self.collection} is sharded by {self.key}, not by {self.wanted}: "
            f"reshardCollection is for a person to decide"
        )


@dataclass(frozen=True, slots=True)
class UnknownShard:
    shard: str
    region: str

    kind = StepKind.BY_HAND

    def __str__(self) -> str:
        return f"there is no shard {self.shard}, which zone {self.region} is to have"


@dataclass(frozen=True, slots=True)
class NoteVersion:
    before: int | None

    kind = StepKind.ADDS

    def __str__(self) -> str:
        began = "" if self.before is None else f", it was {self.before}"
        return f"note schema version {SCHEMA_VERSION}{began}"


Action = (
    CreateIndex
    | DropIndex
    | ReplaceIndex
    | Shard
    | Split
    | AddToZone
    | KeepNear
    | WrongKey
    | UnknownShard
    | NoteVersion
)


def plan(observed: Observed, placement: Placement) -> list[Action]:
    """In the order in which they are to be done: an index before the sharding that needs it and before what it
    replaces is dropped, zones before the chunks that are to move, the version when all is there."""
    actions: list[Action] = []
    drops: list[Action] = []
    for spec in COLLECTIONS:
        there = observed.indexes.get(spec.name, {})
        actions += _indexing(spec, there)
        drops += [
            DropIndex(spec.name, name, found)
            for name, found in there.items()
            if not any(found.serves(index) or found.stands_in_the_way(index) for index in spec.indexes)
            and not _is_for_sharding(spec, found)
        ]
    if observed.router:
        actions += _placing(observed, placement)
    if observed.version is None or observed.version < SCHEMA_VERSION:
        actions.append(NoteVersion(observed.version))
    return actions + drops


def _indexing(spec: CollectionSpec, there: Mapping[str, ObservedIndex]) -> Iterator[Action]:
    for index in spec.indexes:
        if any(found.serves(index) for found in there.values()):
            continue
        in_the_way = [name for name, found in there.items() if found.stands_in_the_way(index)]
        if in_the_way:
            yield ReplaceIndex(spec.name, index, in_the_way[0], there[in_the_way[0]])
        else:
            yield CreateIndex(spec.name, index, _free_name(index.name, there))


def _free_name(name: str, there: Mapping[str, ObservedIndex]) -> str:
    """Another one beside an index that was changed: so the right one is there before the wrong one goes."""
    number, free = 1, name
    while free in there:
        number += 1
        free = f"{name}_{number}"
    return free


def _is_for_sharding(spec: CollectionSpec, found: ObservedIndex) -> bool:
    """`shardCollection` makes an index of the shard key alone where it finds none."""
    return found.fields == (spec.shard_key,) and not found.odd


def _placing(observed: Observed, placement: Placement) -> Iterator[Action]:
    for region, shards in placement.regions.items():
        has = observed.zones.get(region, frozenset())
        for shard in shards:
            if shard not in observed.shards:
                yield UnknownShard(shard, region)
            elif shard not in has:
                yield AddToZone(shard, region)
    for spec in COLLECTIONS:
        present = observed.sharded.get(spec.name)
        if present is None:
            yield Shard(spec.name, spec.shard_key)
        elif present != spec.shard_key:
            yield WrongKey(spec.name, present, spec.shard_key)
            continue
        if is_by_channel(spec):
            yield from _regions_of(spec, observed, placement)


def _regions_of(spec: CollectionSpec, observed: Observed, placement: Placement) -> Iterator[Action]:
    for region, wanted in placement.regions.items():
        shards = tuple(shard for shard in wanted if shard in observed.shards)
        if (spec.name, region) not in observed.split:
            yield Split(spec.name, spec.shard_key, region, shards or observed.shards)
        if shards and (spec.name, region) not in observed.kept_near:
            yield KeepNear(spec.name, spec.shard_key, region)


def is_by_channel(spec: CollectionSpec) -> bool:
    return spec.shard_key == "channel_id" or spec.by_id == "channel_id"


def split_points(region: str) -> tuple[str, ...]:
    """Sorted. The first is where the region's channels begin."""
    return tuple(
        f"{region}_{kind}{number:x}" if number else f"{region}_{kind}"
        for kind in _CHANNEL_KINDS
        for number in range(INITIAL_CHUNKS)
    )


def bounds_of(region: str) -> tuple[str, str]:
    """Every id of the region lies between: "`" is the character after "_"."""
    return f"{region}_", f"{region}`"


def regions_near(ranges: Sequence[tuple[str, str, str, str]]) -> frozenset[tuple[str, str]]:
    """Of (collection, from, to, zone) those that are a region's, in the zone of its name."""
    return frozenset(
        (collection, zone) for collection, low, high, zone in ranges if (low, high) == bounds_of(zone)
    )
