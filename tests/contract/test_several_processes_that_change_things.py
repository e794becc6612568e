"""Several pods change members and messages of one channel at once. Whatever they did to each other, what is there
afterwards is what the log says, applied by one in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import msgspec
import pytest
from channel_log import ChannelLog
from mongo_pods import pods
from support.mongo.commands.call import Call
from support.mongo.wire import Document

from chatkernel.appender import Appender
from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import ChannelInfo, ChannelKind, EventRange, InsertOutcome, PageQuery, Run
from chatkernel.storage.open import Store, open_store

PODS = 4
ROUNDS, OPERATIONS = 12, 3
"""Many short ones: a later event would hide what went wrong with those before."""
PEOPLE = ["u_ann", "u_bob", "u_eve", "u_kim"]
K = EventKind


@pytest.fixture
async def stores(store: Store, store_url: str) -> AsyncIterator[list[Store]]:
    async with AsyncExitStack() as stack:
        opened = [store]
        for _ in range(PODS - 1):
            opened.append(await open_store(store_url))
            stack.push_async_callback(opened[-1].aclose)
        yield opened


def something(random: Random, said: list[int]) -> dict[str, Any]:
    """A draft's fields, of so few people and things that they meet. Ann stays; the others come and go."""
    others = random.sample(PEOPLE[1:], random.randint(1, 2))
    target, rarely = said[0], random.choice(said)
    return random.choice(
        [
            {"kind": K.MESSAGE, "sender_id": random.choice(PEOPLE), "text": "hello"},
            {"kind": K.EDIT, "sender_id": "u_ann", "target_id": target, "text": f"v{random.random()}"},
            {"kind": K.DELETE, "sender_id": "u_ann", "target_id": rarely},
            *(
                {"kind": K.REACTION, "sender_id": "u_ann", "target_id": said[1], "emoji": "x", "on": on}
                for on in (True, False)
            ),
            {"kind": K.RENAME, "sender_id": "u_ann", "name": f"n{random.random()}"},
            {"kind": K.JOIN, "sender_id": "u_ann", "users": others},
            {"kind": K.LEAVE, "sender_id": "u_ann", "users": others},
            {"kind": K.BAN, "sender_id": "u_ann", "users": others[:1]},
            {"kind": K.ROLE, "sender_id": "u_ann", "users": others, "role": Role.ADMIN},
        ]
    )


async def pod(store: Store, channel_id: str, name: str, said: list[int], random: Random) -> None:
    appender = Appender(
        store,
        store,
        now_ms,
        before_insert=lambda _: None,
        on_stored=lambda _: None,
        random_source=random,
    )
    for number in range(OPERATIONS):
        fields = something(random, said)
        try:
            await appender.append(
                channel_id=channel_id, client_msg_id=f"{name}-{number}", members_seq=1, **fields
            )
        except ChatError as error:
            assert error.code in (Code.BANNED, Code.CHANNEL_NOT_FOUND), error  # not in it just now
    await appender.aclose()


async def seen(store: Store, channel_id: str, events: list[Event]) -> dict[str, Any]:
    grants = [await store.grant(channel_id, user_id) for user_id in PEOPLE]
    of_people = await store.grants_of(PEOPLE)
    channel = await store.channel(channel_id)
    members = await store.members(channel_id)
    unread = [await store.unread(user_id, [channel_id]) for user_id in PEOPLE]
    made = {
        "grants": grants,
        "grants of people": [
            [grant for grant in of_people[user_id] if grant.channel_id == channel_id] for user_id in PEOPLE
        ],
        "channel": channel and msgspec.structs.replace(channel, created_at=0),
        "members": [(each.user_id, each.role, each.joined_seq, each.read_seq) for each in members],
        "unread": unread,
        "page": (await store.page(PageQuery(channel_id, 0, len(events) + 1))).items,
    }
    return {name: repr(part).replace(channel_id, "CHANNEL") for name, part in made.items()}


async def check(stores: list[Store], seed: int) -> None:
    """All of them at once, and then one of them alone, with what the log has."""
    for round_number in range(ROUNDS):
        log = ChannelLog(stores[0])
        await log.create("u_ann", "u_bob", "u_eve")
        said = [(await log.say("u_ann", f"m{number}")).message_id for number in range(3)]
        randoms = [Random(f"{seed} {round_number} {number}") for number in range(len(stores))]
        await asyncio.gather(
            *(
                pod(store, log.channel_id, f"p{number}", said, randoms[number])
                for number, store in enumerate(stores)
            )
        )
        [events] = await stores[0].events([EventRange(log.channel_id, 0, 1_000)])
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        replayed = await replay(stores[0], events)
        await heads_are_written(stores[0], log.channel_id, events)
        assert await seen(stores[0], log.channel_id, events) == await seen(stores[0], replayed, events)


async def heads_are_written(store: Store, channel_id: str, events: list[Event]) -> None:
    """Heads, and what senders have read, may trail the log a little."""
    head, sent = events[-1].seq, {e.sender_id: e.seq for e in events if e.kind is K.MESSAGE}
    async with asyncio.timeout(10):
        while True:
            channel = await store.channel(channel_id)
            read = {each.user_id: each.read_seq for each in await store.members(channel_id)}
            late = [user_id for user_id in sent.keys() & read.keys() if read[user_id] < sent[user_id]]
            # Who was removed and came back begins anew, and may have said what is beyond their time.
            late = [user_id for user_id in late if not _came_back(events, user_id, sent[user_id])]
            if channel is not None and channel.head.seq == head and not late:
                return
            await asyncio.sleep(0.02)


def _came_back(events: list[Event], user_id: str, after_seq: int) -> bool:
    return any(e.kind is K.JOIN and e.seq > after_seq and user_id in (e.users or ()) for e in events)


async def replay(store: Store, events: list[Event]) -> str:
    """The id of a channel with these events, stored one by one."""
    log = ChannelLog(store)
    info = ChannelInfo(log.channel_id, ChannelKind.GROUP, "Team", False)
    for event in events:
        again = msgspec.structs.replace(event, channel_id=log.channel_id)
        run = Run(log.channel_id, (again,), info if event.seq == 1 else None)
        assert await store.insert([run]) == [InsertOutcome.STORED]
    return log.channel_id


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_what_is_there_is_what_the_log_says(stores: list[Store], seed: int) -> None:
    await check(stores, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
async def test_the_same_on_a_mongodb_where_writes_overtake_each_other(seed: int) -> None:
    random = Random(seed)

    async def late(call: Call) -> Document:
        if "announced" not in str(call.command):
            await asyncio.sleep(random.choice((0, 0.05)))
        return await call.proceed()

    async with pods() as running:
        stores: list[Store] = [await running.start() for _ in range(PODS)]
        hooked = running.on("update", late)
        await check(stores, seed)
        hooked.remove()
