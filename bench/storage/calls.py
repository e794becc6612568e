"""The calls of the storage ports that people wait for, each made again and again at other places of the data."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.storage.shape import REACTION_EVERY, Channel, Shape, Stream
from chatkernel.storage.model import EventRange, Grant, PageQuery
from chatkernel.storage.open import open_store
from chatkernel.storage.store import Store

PAGE_ITEMS = 50
SYNC_EVENTS = 100
FULL_EVENTS = 120
"""In a channel where a page, or a hundred events, can be had anywhere."""
SYNC_CHANNELS = 20
SYNC_EACH = 10

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A store with the data set in it."""

    store: Store
    shape: Shape
    heads: dict[str, int]
    """Channel to the seq of its last event."""
    chance: random.Random

    def channels(self, count: int, events: int = 1) -> list[Channel]:
        """As busy channels are read more, of those with at least so many events, if there are any: a call must not do
        less where the data set is small."""
        shape = self.shape
        long = [n for n, each in enumerate(shape.channels) if self.heads[each.channel_id] >= events]
        places = long or list(range(len(shape.channels)))
        weights = [shape.weights[place] for place in places]
        return [shape.channels[place] for place in self.chance.choices(places, weights, k=count)]

    def channel(self, events: int = 1) -> Channel:
        return self.channels(1, events)[0]


async def reading(store: Store, shape: Shape) -> Reading:
    heads = await store.heads(shape.ids)
    return Reading(store, shape, {c: head.seq for c, head in heads.items()}, random.Random(11))


async def newest_page(at: Reading) -> Call:
    query = PageQuery(at.channel(FULL_EVENTS).channel_id, 0, PAGE_ITEMS)
    return lambda: at.store.page(query)


async def sync(at: Reading) -> Call:
    """A hundred events of one channel from anywhere in its log."""
    channel_id = at.channel(FULL_EVENTS).channel_id
    after = at.chance.randrange(max(1, at.heads[channel_id] - SYNC_EVENTS))
    return lambda: at.store.events([EventRange(channel_id, after, SYNC_EVENTS)])


async def sync_many(at: Reading) -> Call:
    """The last events of many channels, as of a device that was away for a while."""
    channels = [channel.channel_id for channel in at.channels(SYNC_CHANNELS, SYNC_EACH)]
    ranges = [EventRange(c, max(0, at.heads[c] - SYNC_EACH), SYNC_EACH) for c in dict.fromkeys(channels)]
    return lambda: at.store.events(ranges)


async def around(at: Reading) -> Call:
    """A page around a message anywhere in the log; which messages there are is asked before."""
    channel_id = at.channel(FULL_EVENTS).channel_id
    seq = at.chance.randrange(at.heads[channel_id]) + 1
    seq -= seq % REACTION_EVERY == 0
    message_id = (await at.store.message_ids([(channel_id, seq)]))[channel_id]
    return lambda: at.store.page(PageQuery(channel_id, 0, PAGE_ITEMS, around=message_id))


async def unread_1000(at: Reading) -> Call:
    """Of the one who is everywhere."""
    return lambda: at.store.unread(at.shape.everywhere, at.shape.ids)


async def membership(at: Reading) -> Call:
    channel = at.channel()
    user_id = at.chance.choice(channel.members)
    return lambda: at.store.grant(channel.channel_id, user_id)


CALLS: dict[str, Callable[[Reading], Awaitable[Call]]] = {
    "newest_page": newest_page,
    "sync": sync,
    "sync_many": sync_many,
    "around": around,
    "unread_1000": unread_1000,
    "membership": membership,
}


async def verify(url: str, shape: Shape, stream: Stream) -> None:
    """That the ports see what was loaded behind their back. Raises BenchError."""
    store = await open_store(url)
    try:
        await _verify(store, shape, stream)
    finally:
        await store.aclose()


async def _verify(store: Store, shape: Shape, stream: Stream) -> None:
    heads = await store.heads(shape.ids)
    unread = await store.unread(shape.everywhere, shape.ids)
    for place, (channel, state) in enumerate(zip(shape.channels, stream.states, strict=True)):
        head, c = heads[channel.channel_id], channel.channel_id
        read = state.read.get(shape.everywhere, (0, 0))[1]
        found = (head.seq, head.message_id, head.messages, head.members_seq, unread[c])
        _expect(c, found, (state.seq, state.message_id, state.messages, 1, state.messages - read))
        if place % 97 == 0:
            await _verify_channel(store, channel, state.seq, state.messages)


async def _verify_channel(store: Store, channel: Channel, seq: int, messages: int) -> None:
    c = channel.channel_id
    state = await store.channel(c)
    _expect(c, None if state is None else (state.member_count, state.head.seq), (len(channel.members), seq))
    members = await store.members(c, limit=len(channel.members) + 1)
    _expect(c, [member.user_id for member in members], sorted(channel.members))
    _expect(c, type(await store.grant(c, channel.members[-1])), Grant)
    newest = await store.page(PageQuery(c, 0, PAGE_ITEMS))
    _expect(
        c, (len(newest.items), newest.more_before), (min(PAGE_ITEMS, messages + 1), messages >= PAGE_ITEMS)
    )
    after = max(0, seq - SYNC_EVENTS)
    (events,) = await store.events([EventRange(c, after, SYNC_EVENTS)])
    _expect(c, [event.seq for event in events], list(range(after + 1, seq + 1)))
    if seq > 2 * REACTION_EVERY:
        _expect(c, any(item.reactions for item in newest.items), True)


def _expect(channel_id: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise BenchError(f"the data set is wrong: {channel_id} has {found}, not {wanted}")
