"""The data set: the same channels and members at each size, and any number of events in the order of time.

One channel has a fifth of all events, the others ever less. Events of all channels alternate, as they do in life, so
that what is read together was not written together.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from chatkernel.message_ids import next_message_id
from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, Run

VERSION = 1
"""Raised with every change here: data sets of another version are made anew."""

CHANNELS = 1_000
USERS = 5_000
MEMBERS_MAX = 500
LARGEST_SHARE = 0.2
BEGAN_MS = 1_735_689_600_000
"""2025-01-01: an event every STEP_MS from then on, which is most of a year for ten million."""
STEP_MS = 2_500

REACTION_EVERY = 20
"""Of a channel's events one in so many is a reaction, to the message before it."""
_CHOSEN_AT_ONCE = 10_000
_MASK = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15
_WORDS = (
    "the quick brown fox is in the log, over the lazy dog, and nobody has read of it yet; see below. " * 8
)
_LENGTHS = tuple(random.Random(1).choices((8, 20, 45, 90, 180, 400), (15, 25, 30, 18, 9, 3), k=251))


@dataclass(frozen=True, slots=True)
class Channel:
    channel_id: str
    members: tuple[str, ...]
    """The creator first."""


@dataclass(slots=True)
class State:
    """What follows from the events of a channel so far."""

    seq: int
    message_id: int
    messages: int = 0
    message_seq: int = 0
    last_message_id: int = 0
    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of those who sent: the seq of their last message, and the messages up to it."""


@dataclass(frozen=True, slots=True)
class Reaction:
    channel_id: str
    message_id: int
    emoji: str
    user_id: str
    seq: int


class Shape:
    """`everywhere` is a member of all channels."""

    def __init__(self, channels: int = CHANNELS, users: int = USERS) -> None:
        people = [f"u_{_token(number, 16)}" for number in range(users)]
        self.everywhere = people[0]
        self.channels = [self._channel(number, people) for number in range(channels)]
        self.weights = [1 / (number + 5) ** 0.8 for number in range(channels)]
        self.weights[0] = sum(self.weights[1:]) * LARGEST_SHARE / (1 - LARGEST_SHARE)
        """Of all events, how many are each channel's."""

    @property
    def ids(self) -> list[str]:
        return [channel.channel_id for channel in self.channels]

    def _channel(self, number: int, people: list[str]) -> Channel:
        if number < 10:
            wanted = MEMBERS_MAX
        elif number < 50:
            wanted = 200
        elif number < 200:
            wanted = 50
        else:
            wanted = 2 + number % 19
        others = random.Random(number).sample(people[1:], min(wanted, len(people)) - 1)
        return Channel(f"local_g{_token(number, 24)}", (*others[:1], self.everywhere, *others[1:]))

    def begin(self) -> list[Run]:
        """The CREATED events, each a run."""
        runs = []
        for number, channel in enumerate(self.channels):
            at = BEGAN_MS + number
            event = Event(
                channel.channel_id,
                1,
                next_message_id(at, 0),
                EventKind.CREATED,
                channel.members[0],
                _token(number, 20),
                at,
                members_seq=1,
                users=list(channel.members),
                name=f"Channel {number}",
            )
            info = ChannelInfo(channel.channel_id, ChannelKind.GROUP, f"Channel {number}", True)
            runs.append(Run(channel.channel_id, (event,), info))
        return runs


class Stream:
    """The events after the CREATED ones, up to `size` in all. Once they are read, `states` and `reactions` say what
    follows from them."""

    def __init__(self, shape: Shape, size: int) -> None:
        self.reactions: list[Reaction] = []
        self.states = [State(1, run.events[0].message_id) for run in shape.begin()]
        self._shape, self._left = shape, size - len(shape.channels)
        if self._left < 0:
            raise ValueError(f"{size} events are fewer than there are channels")

    def events(self) -> Iterator[Event]:
        number, at = len(self.states), BEGAN_MS + len(self.states)
        for place in self._places():
            number += 1
            at += STEP_MS
            channel, state = self._shape.channels[place], self.states[place]
            state.seq += 1
            state.message_id = next_message_id(at, state.message_id)
            spread = number * _SPREAD & _MASK
            sender_id = channel.members[(spread >> 24) % len(channel.members)]
            if state.seq % REACTION_EVERY == 0:
                yield self._reaction(channel, state, sender_id, at, number)
                continue
            start = spread % 64
            yield Event(
                channel.channel_id,
                state.seq,
                state.message_id,
                EventKind.MESSAGE,
                sender_id,
                f"{spread:020x}",
                at,
                state.messages,
                1,
                _WORDS[start : start + _LENGTHS[number % 251]],
            )
            state.messages += 1
            state.message_seq, state.last_message_id = state.seq, state.message_id
            state.read[sender_id] = (state.seq, state.messages)

    def _reaction(self, channel: Channel, state: State, sender_id: str, at: int, number: int) -> Event:
        emoji = "👍" if number % 3 else "🎉"
        self.reactions.append(
            Reaction(channel.channel_id, state.last_message_id, emoji, sender_id, state.seq)
        )
        return Event(
            channel.channel_id,
            state.seq,
            state.message_id,
            EventKind.REACTION,
            sender_id,
            f"{number * _SPREAD & _MASK:020x}",
            at,
            state.messages,
            1,
            target_id=state.last_message_id,
            emoji=emoji,
            on=True,
        )

    def _places(self) -> Iterator[int]:
        """Whose event is next."""
        chance, cumulated = random.Random(7), list(accumulate(self._shape.weights))
        numbers, left = range(len(cumulated)), self._left
        while left > 0:
            chosen = chance.choices(numbers, cum_weights=cumulated, k=min(left, _CHOSEN_AT_ONCE))
            left -= len(chosen)
            yield from chosen


def _token(number: int, length: int) -> str:
    """Spread like the random ids of people and channels, and the same each time."""
    return random.Random(f"token{number}").randbytes(length)[: (length + 1) // 2].hex()[:length]
