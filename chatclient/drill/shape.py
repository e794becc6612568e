"""Who is there, who talks to whom, and how much: the load of a drill, from a seed alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

LARGE, MEDIUM, SMALL = 200, 20, 2
"""Members of the three sizes of channel (as far as there are so many users)."""

SHARE_LARGE, SHARE_MEDIUM = 0.025, 0.35
"""Shares of all messages; the rest goes to channels of two. At 200 users it makes about 20 deliveries a
message."""

MEDIUM_PART, LARGE_PART = 0.3, 1 / 30
"""Shares of all channels."""


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What a drill is asked for. `rate` is messages per second, `devices` per user on average."""

    users: int = 200
    channels: int = 60
    rate: float = 200.0
    duration_s: float = 60.0
    devices: float = 1.5
    faults: tuple[str, ...] = ()
    times: int = 1
    hold_s: float = 5.0
    """Between the end of `strike` and the call of `heal`, for faults that are programs."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class ChannelShape:
    """A channel to be. `members` are numbers of users, the creator first; `removed` is put out on the way."""

    name: str
    direct: bool
    members: tuple[int, ...]
    weight: float
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    devices: tuple[int, ...]
    """Devices of each user."""
    channels: tuple[ChannelShape, ...]
    weights: tuple[float, ...] = field(default=())


def make_shape(options: DrillOptions) -> Shape:
    """The same for the same options: what differs between two runs is only time."""
    rng = Random(options.seed)
    devices = _devices(rng, options.users, options.devices)
    large = max(1, round(options.channels * LARGE_PART))
    medium = max(1, round(options.channels * MEDIUM_PART))
    small = max(1, options.channels - large - medium)
    channels = [_group(rng, f"large {n}", LARGE, options.users, SHARE_LARGE / large) for n in range(large)]
    for n in range(medium):
        shape = _group(rng, f"medium {n}", MEDIUM, options.users, SHARE_MEDIUM / medium)
        channels.append(_with_removal(rng, shape, options.users) if n < 2 else shape)
    share = (1 - SHARE_LARGE - SHARE_MEDIUM) / small
    pairs: set[tuple[int, ...]] = set()
    for n in range(small):
        pair = tuple(rng.sample(range(options.users), SMALL))
        # A pair has one 1:1; drawn twice, the second channel of the two is a group.
        direct = tuple(sorted(pair)) not in pairs and n % 4 != 0
        pairs.add(tuple(sorted(pair)))
        channels.append(ChannelShape(f"small {n}", direct, pair, share))
    return Shape(devices, tuple(channels), tuple(channel.weight for channel in channels))


def _devices(rng: Random, users: int, average: float) -> tuple[int, ...]:
    counts = [1] * users
    for _ in range(max(0, round(users * (average - 1)))):
        counts[rng.randrange(users)] += 1
    return tuple(counts)


def _group(rng: Random, name: str, size: int, users: int, weight: float) -> ChannelShape:
    return ChannelShape(name, False, tuple(rng.sample(range(users), min(size, users))), weight)


def _with_removal(rng: Random, shape: ChannelShape, users: int) -> ChannelShape:
    others = [user for user in range(users) if user not in shape.members]
    if not others:
        return shape
    return ChannelShape(shape.name, False, shape.members, shape.weight, rng.choice(others))
