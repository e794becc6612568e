"""What follows from an event beside the log: who is in a channel, and what a message or a channel is now.

The store has no transactions here: the event is inserted first and what follows from it is applied after it, in
idempotent steps that are guarded by its seq. So that nothing is forgotten if the process dies in between, the
channel's document names such an event before it is inserted (`announced`: seq, kind and a number of that insert).
Whoever reads the channel and finds a name looks the event up, applies what is there, and takes the name away; an
event that is not there may still come, and keeps its name. Plain messages announce nothing.

An insert takes only its own names away, when it has applied them or was refused (`announcing.py`): one whose outcome
is unknown keeps them, and somebody else who announced the same seq keeps theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple
from weakref import WeakValueDictionary

from pymongo.errors import PyMongoError

from chatkernel.protocol import MEMBERSHIP_KINDS, Event, EventKind
from chatkernel.storage.model import ChannelInfo, Run
from chatkernel.storage.mongo.announcing import Announcing, Names
from chatkernel.storage.mongo.changes import CHANGING_KINDS, Changes
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import EVENT_FIELDS, Document, channel_of, event_of
from chatkernel.storage.mongo.membership import Membership
from chatkernel.storage.mongo.trailing import Trail
from chatkernel.storage.together import gathered

log = logging.getLogger(__name__)

EFFECTIVE_KINDS = MEMBERSHIP_KINDS | CHANGING_KINDS
APPLIED_MAX = 10_000
"""Events whose effects this process knows to be there: it does not look at them again."""


class Name(NamedTuple):
    seq: int
    kind: str
    name: str

    @property
    def of_membership(self) -> bool:
        return self.kind in MEMBERSHIP_KINDS


def announced(channel: Document) -> list[Name]:
    """What the channel's document names."""
    found = []
    for name in channel.get("announced", ()):
        seq, kind, _ = name.split()
        found.append(Name(int(seq), kind, name))
    return found


class Effects:
    """Owns the note of what this process knows to be applied. Methods raise PyMongoError."""

    def __init__(self, collections: Collections, trail: Trail) -> None:
        self._collections, self._trail = collections, trail
        self._membership, self._changes = Membership(collections), Changes(collections)
        self.announcing = Announcing(collections, EFFECTIVE_KINDS)
        self._applied: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._healing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def apply(self, runs: Sequence[Run], names: Names) -> None:
        """After the runs were stored, of all that was announced with them: channels at the same time, events of one
        in order. What was announced and is not in the runs was refused. A channel that fails stays announced."""
        events: dict[str, list[Event]] = {channel_id: [] for channel_id in names}
        infos: dict[str, ChannelInfo] = {}
        for run in runs:
            if run.channel_id in events:
                events[run.channel_id].extend(run.events)
            if run.channel is not None:
                infos[run.channel_id] = run.channel

        async def one(channel_id: str, stored: list[Event]) -> PyMongoError | None:
            try:
                effective = [event for event in stored if event.kind in EFFECTIVE_KINDS]
                await self._apply(effective, infos.get(channel_id))
            except PyMongoError as error:
                return error
            self._trail.retire(channel_id, self.announcing.settled(channel_id, names[channel_id], stored))
            return None

        for failure in await gathered([one(*each) for each in events.items()]):
            if failure is not None:
                raise failure

    async def _apply(self, events: Sequence[Event], channel: ChannelInfo | None) -> None:
        """Events of one channel, rising."""
        for of_membership, neighbours in groupby(events, lambda event: event.kind in MEMBERSHIP_KINDS):
            some = list(neighbours)
            if of_membership:
                for event in some:
                    await self._membership.apply(event, channel)
            else:
                await self._changes.apply(some)
            self._know((event.channel_id, event.seq) for event in some)

    def _know(self, places: Iterable[tuple[str, int]]) -> None:
        for place in places:
            self._applied[place] = None
        while len(self._applied) > APPLIED_MAX:
            self._applied.popitem(last=False)

    async def heal(self, channel: Document, *, changes_too: bool = False) -> bool:
        """Make sure of what the channel announces; whether its document should be read again.

        A change of a message that cannot be applied now stays announced and fails nobody, unless `changes_too`: what
        is read does not depend on it. A change of membership does.
        """
        channel_id = channel["_id"]
        if not self._left(channel):
            return False
        lock = self._healing.setdefault(channel_id, asyncio.Lock())
        async with lock:  # who comes second finds most of it applied
            left = self._left(channel)
            wanted = sorted({each.seq for each in left if (channel_id, each.seq) not in self._applied})
            where = {"channel_id": channel_id, "seq": {"$in": wanted}}
            found = (
                await self._collections.events.find(where, EVENT_FIELDS).sort("seq", 1).to_list()
                if wanted
                else []
            )
            done = set()
            for document in found:
                event = event_of(document)
                try:
                    await self._apply([event], channel_of(document))
                except PyMongoError as error:
                    if changes_too or event.kind in MEMBERSHIP_KINDS:
                        raise
                    log.warning("a change waits", extra={"error": type(error).__name__})
                else:
                    done.add(event.seq)
            names = [
                each.name
                for each in announced(channel)
                if each.seq in done or (each.of_membership and each.seq <= channel["members_seq"])
            ]
            self._trail.retire(channel_id, names)
        return bool(found) or len(wanted) < len({each.seq for each in left})

    async def recall(self, channel: Document, events: Sequence[Event]) -> None:
        """Announce anew what is in the log and the channel's document may know nothing of, and make sure of it. It
        may be what the store has been put back to: what this process knows is forgotten."""
        again = [
            event
            for event in events
            if event.kind in CHANGING_KINDS
            or (event.kind in MEMBERSHIP_KINDS and event.seq > channel["members_seq"])
        ]
        if again:
            for event in again:
                self._applied.pop((event.channel_id, event.seq), None)
            names = [f"{event.seq} {event.kind.value} again" for event in again]
            update = {"$addToSet": {"announced": {"$each": names}}}
            await self._collections.channels.update_one({"_id": channel["_id"]}, update)
            await self.heal({**channel, "announced": names}, changes_too=True)

    def _left(self, channel: Document) -> list[Name]:
        """What may be to do. A change of membership up to `members_seq` is applied, for that moves last."""
        members_seq: int = channel["members_seq"]
        return [
            each
            for each in announced(channel)
            if (
                each.seq > members_seq
                if each.of_membership
                else (channel["_id"], each.seq) not in self._applied
            )
        ]

    async def make_sure(
        self, events: Iterable[Event], kinds: frozenset[EventKind] = CHANGING_KINDS, *, must: bool = False
    ) -> bool:
        """Of events that were read: whether something was still to do. One read for all their channels, and none
        if this process knows all of them to be applied. Without `must` it fails nobody."""
        places = [
            (event.channel_id, event.seq)
            for event in events
            if event.kind in kinds and (event.channel_id, event.seq) not in self._applied
        ]
        if not places:
            return False
        wanted = {"_id": {"$in": list(dict.fromkeys(channel_id for channel_id, _ in places))}}
        try:
            fields = {"announced": 1, "members_seq": 1}
            channels = await self._collections.channels.find(wanted, fields).to_list()
            outcomes = await gathered([self.heal(channel, changes_too=True) for channel in channels])
        except PyMongoError as error:
            if must:
                raise
            log.warning("changes wait", extra={"error": type(error).__name__})
            return False
        # Read after the events: what is not announced any more is applied.
        self._know(places)
        return any(outcomes)
