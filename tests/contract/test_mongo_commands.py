"""What operations cost, in commands: what grows with people or channels is one command for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from channel_log import ChannelLog
from mongo_pods import Pods, about, pods
from support.mongo.commands.call import Call
from support.mongo.wire import Document

from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import EventRange, PageQuery, Run
from chatkernel.storage.mongo.store import MongoStore

MANY = 20
"""Channels of one call."""


@pytest.fixture
async def running() -> AsyncIterator[Pods]:
    async with pods() as started:
        yield started


@pytest.fixture
async def store(running: Pods) -> MongoStore:
    return await running.start()


async def channels(store: MongoStore, number: int) -> list[ChannelLog]:
    logs = [ChannelLog(store) for _ in range(number)]
    for log in logs:
        await log.create("u_ann", "u_bob")
        await log.say("u_ann", "x")
    await store._trail.settle()
    return logs


def reaction(log: ChannelLog, emoji: str = "x") -> Run:
    event = log.event(EventKind.REACTION, "u_bob", target_id=1, emoji=emoji, on=True)
    return Run(log.channel_id, (event,))


async def test_a_message_is_one_round_trip(running: Pods, store: MongoStore) -> None:
    [log] = await channels(store, 1)
    running.forget()
    await log.say("u_ann", "hello")
    assert running.commands() == [("insert", "events")]
    await store._trail.settle()
    assert sorted(running.commands()) == [
        ("insert", "events"),
        ("update", "channels"),
        ("update", "memberships"),
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "most"),
    [
        (EventKind.REACTION, {"emoji": "x", "on": True}, 3),
        (EventKind.EDIT, {"text": "y"}, 3),
        (EventKind.DELETE, {}, 4),
        (EventKind.RENAME, {"name": "y"}, 3),
    ],
)
async def test_a_change_is_announced_stored_and_applied(
    running: Pods, store: MongoStore, kind: EventKind, fields: dict[str, object], most: int
) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "x")
    await store._trail.settle()
    running.forget()
    await log.append(kind, "u_ann", target_id=said.message_id, **fields)
    assert running.commands()[:2] == [("update", "channels"), ("insert", "events")]
    assert len(running.commands()) <= most


async def test_a_sync_writes_nothing_and_reads_each_range_once(running: Pods, store: MongoStore) -> None:
    logs = await channels(store, MANY)
    for log in logs:
        await log.say_many("u_ann", 2)
    ranges = [EventRange(log.channel_id, 0, 200) for log in logs]
    await store._trail.settle()
    other = await running.start()
    running.forget()
    await other.events(ranges)
    assert Counter(running.commands()) == {("find", "events"): MANY}


async def test_a_sync_of_changes_that_are_applied_writes_nothing(running: Pods, store: MongoStore) -> None:
    """One look at all the channels says that there is nothing to do; the process remembers it."""
    logs = await channels(store, MANY)
    await store.insert([reaction(log) for log in logs])
    ranges = [EventRange(log.channel_id, 0, 100) for log in logs]
    await store._trail.settle()
    other = await running.start()
    running.forget()
    await other.events(ranges)
    assert Counter(running.commands()) == {("find", "events"): MANY, ("find", "channels"): 1}
    running.forget()
    for each in (other, store):
        await each.events(ranges)
    assert Counter(running.commands()) == {("find", "events"): 2 * MANY}


@pytest.mark.slow
async def test_a_group_of_five_hundred_is_a_handful_of_commands(running: Pods, store: MongoStore) -> None:
    people = [f"u_{number:04d}" for number in range(500)]
    log = ChannelLog(store)
    running.forget()
    await log.create(*people)
    assert len(running.commands()) <= 8
    assert [each.user_id for each in await store.members(log.channel_id)] == people


async def test_a_change_of_many_members_is_a_handful_of_commands(running: Pods, store: MongoStore) -> None:
    people = [f"u_{number:04d}" for number in range(40)]
    log = ChannelLog(store)
    await log.create(*people)
    for kind, fields in (
        (EventKind.LEAVE, {"users": people[20:]}),
        (EventKind.JOIN, {"users": people[20:]}),
        (EventKind.ROLE, {"users": people[10:], "role": Role.ADMIN}),
        (EventKind.BAN, {"users": people[1:]}),
    ):
        await store._trail.settle()
        running.forget()
        await log.append(kind, people[0], **fields)
        assert len(running.commands()) <= 8, kind
    assert [each.user_id for each in await store.members(log.channel_id)] == people[:1]


async def test_changes_of_one_batch_are_applied_side_by_side(running: Pods, store: MongoStore) -> None:
    logs = await channels(store, MANY)
    at_once = most = 0

    async def hook(call: Call) -> Document:
        nonlocal at_once, most
        if not about(call, "reactions"):
            return await call.proceed()
        at_once += 1
        most = max(most, at_once)
        async with asyncio.timeout(10):
            while most < 10:
                await asyncio.sleep(0)
        at_once -= 1
        return await call.proceed()

    running.on("update", hook)
    running.forget()
    await store.insert([reaction(log) for log in logs])
    counted = Counter(running.commands())
    assert counted["insert", "events"] == 1
    assert counted["update", "reactions"] == MANY


async def test_reactions_in_a_row_are_one_write(running: Pods, store: MongoStore) -> None:
    [log] = await channels(store, 1)
    events = tuple(reaction(log, emoji).events[0] for emoji in "abcdefgh")
    running.forget()
    await store.insert([Run(log.channel_id, events)])
    assert running.commands() == [("update", "channels"), ("insert", "events"), ("update", "reactions")]


async def test_pages_and_syncs_come_in_one_batch(running: Pods, store: MongoStore) -> None:
    [log] = await channels(store, 1)
    await log.say_many("u_ann", 250)
    await store._trail.settle()
    running.forget()
    await store.page(PageQuery(log.channel_id, 0, 200))
    await store.events([EventRange(log.channel_id, 0, 200)])
    assert running.deployment.primary.seen("getMore") == []


async def test_a_grant_reads_the_channel_and_the_membership(running: Pods, store: MongoStore) -> None:
    [log] = await channels(store, 1)
    other = await running.start()
    running.forget()
    await other.grant(log.channel_id, "u_ann")
    assert running.commands() == [("find", "channels"), ("find", "memberships")]
    running.forget()
    await other.grants_of(["u_ann", "u_bob"])
    assert running.commands() == [("find", "memberships"), ("find", "channels"), ("find", "memberships")]


async def test_what_is_compared_at_each_heartbeat_is_read_once(running: Pods, store: MongoStore) -> None:
    logs = await channels(store, MANY)
    other = await running.start()
    running.forget()
    await other.channels_of(["u_ann", "u_bob"])
    await other.member_counts([log.channel_id for log in logs])
    assert running.commands() == [("find", "memberships"), ("find", "channels")]


async def test_what_was_just_applied_is_not_looked_up_by_who_applied_it(
    running: Pods, store: MongoStore
) -> None:
    """Its name goes with the next trailing write."""
    [log] = await channels(store, 1)
    held = running.on("update", _held_trail)
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    await store.insert([reaction(log)])
    running.forget()
    await store.grant(log.channel_id, "u_ann")
    assert running.commands() == [("find", "channels"), ("find", "memberships")]
    held.remove()


async def _held_trail(call: Call) -> Document:
    while about(call, "channels") and "head_seq" in str(call.command):
        await asyncio.sleep(0.01)
        if not call.server.hooks.get("update"):
            break
    return await call.proceed()
