"""Lists, unread counts and marks, when the process that stored a message died before it wrote what trails it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from channel_log import ChannelLog
from mongo_pods import Pods, about, pods
from pymongo.errors import PyMongoError
from support.mongo import faults
from support.mongo.commands.call import Call
from support.mongo.errors import ErrorCode
from support.mongo.wire import Document

from chatkernel.errors import ChatError
from chatkernel.protocol import EventKind
from chatkernel.storage.model import Absence, Conversation, Grant, Run, SendKey, Watermark
from chatkernel.storage.mongo import head_audit
from chatkernel.storage.mongo.documents import document_of
from chatkernel.storage.mongo.store import MongoStore


@pytest.fixture
async def running() -> AsyncIterator[Pods]:
    async with pods() as started:
        yield started


@pytest.fixture
async def store(running: Pods) -> MongoStore:
    return await running.start()


async def line(store: MongoStore, user_id: str) -> Conversation:
    [found] = (await store.conversations(user_id, cursor=None, limit=10, archived=False)).conversations
    return found


def text(conversation: Conversation) -> str | None:
    return None if conversation.last_message is None else conversation.last_message.event.text


async def said_by_one_who_died(running: Pods, log: ChannelLog, *texts: str) -> None:
    """Acked, and nothing written after the log."""
    dying = await running.start()
    refusing = running.on("update", faults.fails(ErrorCode.OUT_OF_DISK_SPACE))
    for each in texts:
        event = log.event(EventKind.MESSAGE, "u_ann", text=each)
        await dying.insert([Run(log.channel_id, (event,))])
    await dying.aclose()
    refusing.remove()


async def prepared(store: MongoStore) -> ChannelLog:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "one")
    await store._trail.settle()
    return log


async def test_a_list_shows_the_last_message_and_its_number_by_the_log(
    running: Pods, store: MongoStore
) -> None:
    log = await prepared(store)
    await said_by_one_who_died(running, log, "two", "three")
    found = await line(store, "u_bob")
    assert (text(found), found.unread) == ("three", 3)


async def test_unread_is_never_below_nothing(running: Pods, store: MongoStore) -> None:
    log = await prepared(store)
    await said_by_one_who_died(running, log, "two")
    [state] = await store.put_watermarks([Watermark(log.channel_id, "u_bob", log.seq)])
    assert state is not None and state.unread == 0
    assert await store.unread("u_bob", [log.channel_id]) == {log.channel_id: 0}
    assert (await line(store, "u_bob")).unread == 0


@pytest.mark.parametrize("how", ["heads", "list"])
async def test_whoever_reads_the_true_head_mends_what_is_behind(
    running: Pods, store: MongoStore, how: str
) -> None:
    log = await prepared(store)
    await said_by_one_who_died(running, log, "two", "three")
    reader = await running.start()
    if how == "heads":
        await reader.heads([log.channel_id])
    else:
        await line(reader, "u_bob")
    async with asyncio.timeout(20):
        while (await store.unread("u_bob", [log.channel_id]))[log.channel_id] != 3:
            await asyncio.sleep(0.05)
        while (await store.unread("u_ann", [log.channel_id]))[log.channel_id] != 0:
            await asyncio.sleep(0.05)
    channel = await store.channel(log.channel_id)
    assert channel is not None and channel.head == (await store.heads([log.channel_id]))[log.channel_id]


async def test_a_message_whose_answer_was_lost_counts(running: Pods, store: MongoStore) -> None:
    log = await prepared(store)
    event = log.event(EventKind.MESSAGE, "u_ann", text="two")
    assert await running.dies(lambda dying: dying.insert([Run(log.channel_id, (event,))]), after="insert")
    await store.find_sent([SendKey(log.channel_id, "u_ann", event.client_msg_id)])
    assert await store.unread("u_bob", [log.channel_id]) == {log.channel_id: 2}
    await store._trail.settle()
    other = await running.start()
    assert await other.unread("u_bob", [log.channel_id]) == {log.channel_id: 2}
    assert await other.unread("u_ann", [log.channel_id]) == {log.channel_id: 0}


async def test_a_message_counts_though_what_was_stored_with_it_fails(
    running: Pods, store: MongoStore
) -> None:
    log, other = await prepared(store), await prepared(store)
    edit = other.event(EventKind.EDIT, "u_ann", target_id=1, text="x")
    message = log.event(EventKind.MESSAGE, "u_ann", text="two")

    async def hook(call: Call) -> Document:
        if about(call, "events"):
            return await faults.fails(ErrorCode.OUT_OF_DISK_SPACE)(call)
        return await call.proceed()

    running.on("update", hook)
    with pytest.raises(ChatError):
        await store.insert([Run(log.channel_id, (message,)), Run(other.channel_id, (edit,))])
    await store._trail.settle()
    assert await (await running.start()).unread("u_bob", [log.channel_id]) == {log.channel_id: 2}


async def test_a_write_that_fails_keeps_the_last_message_though_a_reaction_comes_meanwhile(
    running: Pods, store: MongoStore
) -> None:
    log = await prepared(store)
    said = await log.say("u_ann", "two")
    meanwhile = False

    async def hook(call: Call) -> Document:
        nonlocal meanwhile
        if not about(call, "channels") or "head_seq" not in str(call.command):
            return await call.proceed()
        if not meanwhile:
            meanwhile = True
            await log.append(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True)
        return await faults.fails(ErrorCode.OUT_OF_DISK_SPACE)(call)

    failing = running.on("update", hook)
    with pytest.raises(PyMongoError):
        await store._trail.settle()
    failing.remove()
    await store._trail.settle()
    found = await line(await running.start(), "u_bob")
    assert (text(found), found.seq) == ("two", log.seq)
    document = await store._collections.channels.find_one({"_id": log.channel_id})
    assert document is not None and document["message_seq"] == said.seq


async def test_delivered_is_kept_though_read_moves_meanwhile(running: Pods, store: MongoStore) -> None:
    log = await prepared(store)
    await log.say_many("u_ann", 9)
    other = await running.start()

    async def hook(call: Call) -> Document:
        if about(call, "memberships"):
            hooked.remove()
            await other.put_watermarks([Watermark(log.channel_id, "u_bob", read_seq=5)])
        return await call.proceed()

    await store._trail.settle()
    hooked = running.on("update", hook)
    [state] = await store.put_watermarks([Watermark(log.channel_id, "u_bob", delivered_seq=10)])
    assert state is not None and state.delivered_seq == 10
    bob = next(each for each in await other.members(log.channel_id) if each.user_id == "u_bob")
    assert (bob.read_seq, bob.delivered_seq) == (5, 10)


async def test_what_is_just_being_written_is_seen_by_this_process(running: Pods, store: MongoStore) -> None:
    """The read is answered with what was before the write, and after the write has ended."""
    log = await prepared(store)
    await log.say("u_ann", "two")

    async def hook(call: Call) -> Document:
        answer = await call.proceed()
        if about(call, "channels"):
            await store._trail.settle()
        return answer

    running.on("find", hook)
    assert await store.unread("u_bob", [log.channel_id]) == {log.channel_id: 2}


async def test_changes_that_a_copy_of_the_store_had_only_in_the_log_count(
    running: Pods, store: MongoStore
) -> None:
    """Nobody announced them there: the channels were copied before them, and the logs after."""
    log = await prepared(store)
    said = await log.say("u_ann", "secret")
    await store._trail.settle()
    for event in (
        log.event(EventKind.DELETE, "u_ann", target_id=said.message_id),
        log.event(EventKind.JOIN, "u_ann", users=["u_eve"]),
        log.event(EventKind.MESSAGE, "u_ann", text="in between"),
        log.event(EventKind.BAN, "u_ann", users=["u_bob"]),
    ):
        await store._collections.events.insert_one(document_of(event, None))
    reader = await running.start()
    assert isinstance(await reader.grant(log.channel_id, "u_bob"), Grant)
    await reader.heads([log.channel_id])
    async with asyncio.timeout(20):
        while await store.grant(log.channel_id, "u_bob") is not Absence.BANNED:
            await asyncio.sleep(0.05)
    grant = await store.grant(log.channel_id, "u_eve")
    assert isinstance(grant, Grant) and grant.members_seq == log.seq
    item = await store.message(log.channel_id, said.message_id)
    assert item is not None and item.deleted
    await reader._trail.settle()
    channel = await store._collections.channels.find_one({"_id": log.channel_id})
    assert channel is not None and channel["announced"] == []


async def test_changes_of_members_far_back_in_the_log_are_found(
    running: Pods, store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_audit, "REREAD_EVENTS", 3)
    log = await prepared(store)
    joined = [
        log.event(EventKind.JOIN, "u_ann", users=["u_eve"]),
        log.event(EventKind.MESSAGE, "u_ann", text="in between"),
        log.event(EventKind.BAN, "u_ann", users=["u_bob"]),
    ]
    later = [log.event(EventKind.MESSAGE, "u_ann", text="later") for _ in range(5)]
    for event in joined + later:
        await store._collections.events.insert_one(document_of(event, None))
    await store.heads([log.channel_id])
    async with asyncio.timeout(20):
        while await store.grant(log.channel_id, "u_bob") is not Absence.BANNED:
            await asyncio.sleep(0.05)
    assert isinstance(await store.grant(log.channel_id, "u_eve"), Grant)


@pytest.mark.parametrize("part", [3, 200])
async def test_a_channel_that_a_copy_of_the_store_had_only_in_the_log_is_there_again(
    running: Pods, store: MongoStore, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """However many changes it has seen, and whoever reads its head first."""
    monkeypatch.setattr(head_audit, "REREAD_EVENTS", part)
    log = await prepared(store)
    joined = [f"u_{number}" for number in range(7)]
    for user_id in joined:
        await log.append(EventKind.JOIN, "u_ann", users=[user_id])
    said = await log.say("u_ann", "secret")
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    await log.append(EventKind.BAN, "u_ann", users=[joined[0]])
    for _ in range(5):
        await log.say("u_bob", "later")
    await store._trail.settle()
    before = await store._collections.channels.find_one({"_id": log.channel_id})
    collections = store._collections
    for each in (collections.channels, collections.memberships):
        await each.delete_many({})
    await collections.events.update_many({}, {"$unset": {"deleted_seq": ""}})

    reader = await running.start()
    assert await reader.channel(log.channel_id) is None
    await reader.heads([log.channel_id])
    async with asyncio.timeout(20):
        while await reader.grant(log.channel_id, joined[0]) is not Absence.BANNED:
            await asyncio.sleep(0.05)
    for user_id in ("u_ann", "u_bob", *joined[1:]):
        assert isinstance(await reader.grant(log.channel_id, user_id), Grant), user_id
    item = await reader.message(log.channel_id, said.message_id)
    assert item is not None and item.deleted
    await reader._trail.settle()
    after = await collections.channels.find_one({"_id": log.channel_id})
    assert after == before


async def test_who_came_back_has_not_read_what_they_said_before(running: Pods, store: MongoStore) -> None:
    """What they read by sending is written when they are in again."""
    log = await prepared(store)
    refusing = running.on("update", _no_marks)
    await log.say("u_bob", "two")
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
    for settled in (False, True):
        bob = next(each for each in await store.members(log.channel_id) if each.user_id == "u_bob")
        assert bob.read_seq == 0
        if not settled:
            refusing.remove()
            await store._trail.settle()


async def _no_marks(call: Call) -> Document:
    if about(call, "memberships") and "read_seq" in str(call.command["updates"][0]["u"].get("$max")):
        return await faults.fails(ErrorCode.OUT_OF_DISK_SPACE)(call)
    return await call.proceed()
