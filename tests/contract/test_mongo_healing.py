"""What a process that died or is late left undone: whoever reads next makes up for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from channel_log import ChannelLog
from mongo_pods import Pods, about, pods
from support.mongo import faults
from support.mongo.commands.call import Call
from support.mongo.errors import ErrorCode
from support.mongo.wire import Document

from chatkernel.errors import ChatError
from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import Absence, EventRange, Grant, InsertOutcome, Run, SendKey
from chatkernel.storage.mongo.store import MongoStore

OLD_MS = 3_600_000


@pytest.fixture
async def running() -> AsyncIterator[Pods]:
    async with pods() as started:
        yield started


@pytest.fixture
async def store(running: Pods) -> MongoStore:
    return await running.start()


async def dies_after_storing(running: Pods, event: Event) -> Event:
    assert await running.dies(lambda dying: dying.insert([Run(event.channel_id, (event,))]), after="insert")
    return event


async def test_a_ban_that_comes_between_two_reads_of_who_heals_is_not_forgotten(
    running: Pods, store: MongoStore
) -> None:
    """The reader has found it announced and not in the log; then it comes, and its process dies."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    ban = log.event(EventKind.BAN, "u_ann", users=["u_bob"])
    dying = await running.start()
    looked, stored = asyncio.Event(), asyncio.Event()

    async def insert(call: Call) -> Document:
        await looked.wait()
        answer = await call.proceed()
        stored.set()
        await asyncio.Event().wait()
        return answer

    async def find(call: Call) -> Document:
        answer = await call.proceed()
        if about(call, "events"):
            looked.set()
            await stored.wait()
        return answer

    announced = running.on("update", faults.slow(0))
    inserting = running.on("insert", insert)
    finding = running.on("find", find)
    killed = asyncio.create_task(dying.insert([Run(log.channel_id, (ban,))]))
    await announced.reached()
    await inserting.reached()
    await store.grant(log.channel_id, "u_ann")
    for hooked in (inserting, finding):
        hooked.remove()
    killed.cancel()
    await asyncio.wait([killed])
    for reader in (store, await running.start()):
        assert await reader.grant(log.channel_id, "u_bob") is Absence.BANNED


async def test_a_change_that_was_announced_and_never_came_is_forgotten(
    running: Pods, store: MongoStore
) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    leave = log.event(EventKind.LEAVE, "u_bob", users=["u_bob"])
    assert await running.dies(lambda dying: dying.insert([Run(log.channel_id, (leave,))]), after=1)
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    log.seq, log.members_seq = log.seq - 1, 1
    await log.say("u_ann", "took its place")
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    await store._trail.settle()
    running.forget()
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    assert running.commands() == [("find", "channels"), ("find", "memberships")]


async def test_who_lost_a_place_takes_back_only_its_own_announcement(
    running: Pods, store: MongoStore
) -> None:
    """Two processes announce the same seq, and the one that won dies before it has applied anything."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    delete = log.event(EventKind.DELETE, "u_ann", target_id=said.message_id)
    await dies_after_storing(running, delete)
    log.seq -= 1
    reaction = log.event(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True)
    await store.insert([Run(log.channel_id, (reaction,))])
    await store._trail.settle()
    reader = await running.start()
    await reader.grant(log.channel_id, "u_bob")
    item = await reader.message(log.channel_id, said.message_id)
    assert item is not None and item.deleted and item.reactions is None


@pytest.mark.parametrize("how", ["resend", "sync", "grant"])
async def test_a_delete_is_made_sure_of_however_long_ago(running: Pods, store: MongoStore, how: str) -> None:
    log = ChannelLog(store, start_ms=now_ms() - OLD_MS)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    event = log.event(EventKind.DELETE, "u_ann", target_id=said.message_id, client_msg_id="del")
    await dies_after_storing(running, event)
    match how:
        case "resend":
            await store.find_sent([SendKey(log.channel_id, "u_ann", "del")])
        case "sync":
            await store.events([EventRange(log.channel_id, 2, 10)])
        case "grant":
            await store.grant(log.channel_id, "u_bob")
    found = await store.message(log.channel_id, said.message_id)
    assert found is not None and found.deleted and found.event.text is None
    [events] = await store.events([EventRange(log.channel_id, 1, 1)])
    assert events[0].text is None


async def test_an_edit_that_was_not_applied_before_the_delete_leaves_no_text(
    running: Pods, store: MongoStore
) -> None:
    log = ChannelLog(store, start_ms=now_ms() - OLD_MS)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    edit = log.event(EventKind.EDIT, "u_ann", target_id=said.message_id, text="also secret")
    await dies_after_storing(running, edit)
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    reader = await running.start()
    await reader.grant(log.channel_id, "u_bob")
    [events] = await reader.events([EventRange(log.channel_id, 1, 10)])
    assert [event.text for event in events] == [None, None, None]


async def test_reads_go_on_while_the_store_takes_no_writes(running: Pods, store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "hello")
    edit = log.event(EventKind.EDIT, "u_ann", target_id=said.message_id, text="hello!")
    await dies_after_storing(running, edit)
    log.store = other = await running.start()
    await log.say("u_ann", "more")
    full = running.on("update", faults.fails(ErrorCode.OUT_OF_DISK_SPACE))
    reader = await running.start()
    [events] = await reader.events([EventRange(log.channel_id, 0, 10)])
    assert len(events) == 4
    assert isinstance(await reader.grant(log.channel_id, "u_bob"), Grant)
    for each in (reader, other):
        assert await each.channel(log.channel_id) is not None
        assert len(await each.members(log.channel_id)) == 2
        page = await each.conversations("u_bob", cursor=None, limit=5, archived=False)
        assert page.conversations[0].unread == 2
    assert await other.unread("u_bob", [log.channel_id]) == {log.channel_id: 2}
    full.remove()
    assert isinstance(await reader.grant(log.channel_id, "u_bob"), Grant)
    found = await reader.message(log.channel_id, said.message_id)
    assert found is not None and found.event.text == "hello!"


async def test_a_removal_that_cannot_be_applied_lets_nobody_in(running: Pods, store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await dies_after_storing(running, log.event(EventKind.BAN, "u_ann", users=["u_bob"]))
    full = running.on("update", faults.fails(ErrorCode.OUT_OF_DISK_SPACE))
    with pytest.raises(Exception, match="storage_full"):
        await store.grant(log.channel_id, "u_bob")
    full.remove()
    assert await store.grant(log.channel_id, "u_bob") is Absence.BANNED


async def test_somebody_who_came_in_while_grants_were_read_and_was_removed_again_has_none(
    running: Pods, store: MongoStore
) -> None:
    """A grant is of one moment: not a membership from before the removal with the number of after."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    reader = await running.start()
    reads = 0

    async def find(call: Call) -> Document:
        nonlocal reads
        if not about(call, "memberships") or "user_id" not in str(call.command["filter"]):
            return await call.proceed()
        reads += 1
        mine = reads
        if mine == 2:
            hooked.remove()
            await log.append(EventKind.JOIN, "u_ann", users=["u_eve"])
        answer = await call.proceed()
        if mine == 2:
            await log.append(EventKind.BAN, "u_ann", users=["u_eve"])
        return answer

    hooked = running.on("find", find)
    grants = await reader.grants_of(["u_eve"])
    assert all(grant.members_seq < log.members_seq for grant in grants["u_eve"])


async def test_a_word_that_is_late_does_not_bring_a_reaction_back(running: Pods, store: MongoStore) -> None:
    """Two processes apply on and off to a reaction that is not there yet; the later one began to write first."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "x")
    on, off = (
        log.event(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=word)
        for word in (True, False)
    )
    other = await running.start()
    waiting, applied = asyncio.Event(), asyncio.Event()

    async def update(call: Call) -> Document:
        writes = call.command.get("updates", [])
        upserts = any(each.get("upsert") for each in writes)
        if about(call, "reactions") and f"'seq': {off.seq}" in str(writes) and upserts:
            waiting.set()
            await applied.wait()
        return await call.proceed()

    async def insert(call: Call) -> Document:
        """The first one's insert is stored and its answer is late, so that the other can go on."""
        answer = await call.proceed()
        if call.command["documents"][0]["seq"] == on.seq:
            await waiting.wait()
        return answer

    running.on("update", update)
    running.on("insert", insert)
    first = asyncio.create_task(store.insert([Run(log.channel_id, (on,))]))
    while log.channel_id not in (heads := await other.heads([log.channel_id])) or (
        heads[log.channel_id].seq < on.seq
    ):
        await asyncio.sleep(0)
    second = asyncio.create_task(other.insert([Run(log.channel_id, (off,))]))
    await first
    applied.set()
    await second
    item = await store.message(log.channel_id, said.message_id)
    assert item is not None and item.reactions is None


async def test_a_handing_over_that_was_half_done_is_finished(running: Pods, store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    event = log.event(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.OWNER)
    run = Run(log.channel_id, (event,))
    assert await running.dies(lambda dying: dying.insert([run]), after=3)
    await store.grant(log.channel_id, "u_ann")
    assert {each.user_id: each.role for each in await store.members(log.channel_id)} == {
        "u_ann": "admin",
        "u_bob": "owner",
    }


async def test_announcements_of_inserts_that_fail_do_not_pile_up(running: Pods, store: MongoStore) -> None:
    """The log is away and the channel's document is not: each try announces the same events again."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "hello")
    await store._trail.settle()
    other = log.event(EventKind.EDIT, "u_ann", target_id=said.message_id, text="hello!")
    log.seq -= 1
    event = log.event(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="x", on=True)
    failing = running.on("insert", faults.fails(ErrorCode.INTERNAL_ERROR))
    for _ in range(20):
        for tried in (event, other, event):
            with pytest.raises(ChatError):
                await store.insert([Run(log.channel_id, (tried,))])
    assert len(await names_of(store, log)) == 2
    failing.remove()
    await store.insert([Run(log.channel_id, (event,))])
    await store._trail.settle()
    assert await names_of(store, log) == []


async def test_a_refusal_may_be_by_an_own_insert_that_was_believed_lost(
    running: Pods, store: MongoStore
) -> None:
    """Its answer was lost, and it had not been applied: the name that both tries share must stay until it is."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    event = log.event(EventKind.DELETE, "u_ann", target_id=said.message_id)
    running.on("insert", faults.write_concern_failed(), times=1)
    with pytest.raises(ChatError):
        await store.insert([Run(log.channel_id, (event,))])
    assert await store.insert([Run(log.channel_id, (event,))]) == [InsertOutcome.REFUSED]
    await store._trail.settle()
    reader = await running.start()
    await reader.grant(log.channel_id, "u_bob")
    item = await reader.message(log.channel_id, said.message_id)
    assert item is not None and item.deleted


async def names_of(store: MongoStore, log: ChannelLog) -> list[str]:
    channel = await store._collections.channels.find_one({"_id": log.channel_id})
    assert channel is not None
    return list(channel["announced"])
