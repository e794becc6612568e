"""Names of what an insert is about to store, in the documents of its channels (see `effects.py`).

An insert takes away only names of its own, when what they stand for was applied or refused. When nobody knows what
became of it they stay, and the next try to store the same uses them again: else they would pile up for as long as
inserts fail. Such a name says nothing when the next try is refused, for it may have been refused by the first: it
stays until it is known what stands in its place.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pymongo import UpdateOne

from chatkernel.protocol import Event, EventKind
from chatkernel.storage.model import ChannelInfo, Run
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document, fresh
from chatkernel.storage.mongo.upserts import write_again

CHANNELS_MAX = 10_000
"""Whose names of inserts that failed are remembered. Of others whoever reads the channel takes them away."""

Place = tuple[int, EventKind]


@dataclass(slots=True)
class Announced:
    """What an insert announced in one channel, by seq and kind."""

    own: dict[Place, str] = field(default_factory=dict)
    again: dict[Place, str] = field(default_factory=dict)
    """Names of earlier inserts, of which nobody knows what became."""
    settled: bool = False

    def name_of(self, event: Event, number: str) -> str:
        place = (event.seq, event.kind)
        if place in self.again:
            return self.again[place]
        return self.own.setdefault(place, f"{event.seq} {event.kind.value} {number}")

    def over(self, stored: Iterable[Event]) -> list[str]:
        """Those that nobody needs any more when these events are applied and all others were refused."""
        seqs = {event.seq for event in stored}
        return [*self.own.values(), *(name for place, name in self.again.items() if place[0] in seqs)]

    def left(self, stored: Iterable[Event]) -> dict[Place, str]:
        seqs = {event.seq for event in stored}
        return {place: name for place, name in self.again.items() if place[0] not in seqs}


Names = Mapping[str, Announced]
"""By channel."""


class Announcing:
    """Owns the names of inserts of this process that failed. Methods raise PyMongoError."""

    def __init__(self, collections: Collections, kinds: frozenset[EventKind]) -> None:
        self._collections, self._kinds = collections, kinds
        self._unknown: OrderedDict[str, dict[Place, str]] = OrderedDict()

    async def announce(self, runs: Sequence[Run]) -> dict[str, Announced]:
        """In one write for all channels, before the runs are inserted."""
        number = os.urandom(6).hex()
        names: dict[str, Announced] = {}
        told: dict[str, list[str]] = {}
        infos: dict[str, ChannelInfo] = {}
        for run in runs:
            if run.channel is not None:
                infos[run.channel_id] = run.channel
            for event in run.events:
                if event.kind in self._kinds:
                    mine = names.get(run.channel_id)
                    if mine is None:
                        mine = names[run.channel_id] = Announced(again=self._taken(run))
                    told.setdefault(run.channel_id, []).append(mine.name_of(event, number))
        writes = []
        for channel_id, mine_told in told.items():
            update: Document = {"$addToSet": {"announced": {"$each": mine_told}}}
            info = infos.get(channel_id)
            if info is not None:
                update["$setOnInsert"] = fresh(info)
            writes.append(UpdateOne({"_id": channel_id}, update, upsert=info is not None))
        if writes:
            try:
                await write_again(self._collections.channels, writes)
            except BaseException:
                self.failed(names)
                raise
        return names

    def failed(self, names: Names) -> None:
        """Nobody knows what became of them."""
        for channel_id, mine in names.items():
            if not mine.settled:
                self._keep(channel_id, mine.again | mine.own)

    def settled(self, channel_id: str, mine: Announced, stored: Sequence[Event]) -> list[str]:
        """These events are applied, and all others were refused; the names that go."""
        mine.settled = True
        self._keep(channel_id, mine.left(stored))
        return mine.over(stored)

    def _taken(self, run: Run) -> dict[Place, str]:
        """What is remembered of the channel. Below this run all places are taken, and who reads it takes the names
        away."""
        found = self._unknown.pop(run.channel_id, {})
        return {place: name for place, name in found.items() if place[0] >= run.events[0].seq}

    def _keep(self, channel_id: str, names: dict[Place, str]) -> None:
        if names:
            self._unknown[channel_id] = self._unknown.pop(channel_id, {}) | names
        while len(self._unknown) > CHANNELS_MAX:
            self._unknown.popitem(last=False)
