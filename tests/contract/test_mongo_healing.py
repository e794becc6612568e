"""A process that dies between an event and what follows from it: whoever reads next makes up for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from channel_log import ChannelLog
from support.cluster import eventually

from chatkernel.ids import now_ms
from chatkernel.protocol import Event, EventKind, Role
from chatkernel.storage.model import Absence, EventRange, Grant, SendKey
from chatkernel.storage.mongo.documents import document_of
from chatkernel.storage.mongo.store import MongoStore, open_mongo


@pytest.fixture
async def store(mongo_url: str) -> AsyncIterator[MongoStore]:
    opened = await open_mongo(mongo_url)
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


async def dies_after(store: MongoStore, event: Event, *, announced: bool = True) -> Event:
    """The event is stored, and its writer did nothing more."""
    if announced:
        await store._membership.announce(event.channel_id, event.seq, None)
    await store._collections.events.insert_one(document_of(event, None))
    return event


async def test_a_removal_counts_for_the_next_grant(store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await dies_after(store, log.event(EventKind.LEAVE, "u_bob", users=["u_bob"]))
    assert await store.grant(log.channel_id, "u_bob") is Absence.NOT_MEMBER
    grant = await store.grant(log.channel_id, "u_ann")
    assert isinstance(grant, Grant)
    assert (grant.members_seq, grant.member_count) == (2, 1)


async def test_a_removal_counts_for_the_grants_of_a_person(store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await dies_after(store, log.event(EventKind.BAN, "u_ann", users=["u_bob"]))
    assert await store.grants_of(["u_bob"]) == {"u_bob": []}
    assert await store.grant(log.channel_id, "u_bob") is Absence.BANNED


async def test_a_handing_over_that_was_half_done_is_finished(store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    event = log.event(EventKind.ROLE, "u_ann", users=["u_bob"], role=Role.OWNER)
    await dies_after(store, event)
    await store._collections.memberships.update_one(
        {"channel_id": log.channel_id, "user_id": "u_bob"}, {"$set": {"role": "owner", "seq": event.seq}}
    )
    await store.grant(log.channel_id, "u_ann")
    assert {each.user_id: each.role for each in await store.members(log.channel_id)} == {
        "u_ann": "admin",
        "u_bob": "owner",
    }


async def test_a_change_that_was_announced_and_never_came_is_forgotten(store: MongoStore) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await store._membership.announce(log.channel_id, 2, None)
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    await log.say("u_ann", "took its place")
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    channel = await store._collections.channels.find_one({"_id": log.channel_id})
    assert channel is not None and channel["pending_seq"] == channel["members_seq"] == 1


@pytest.mark.parametrize("how", ["resend", "sync"])
async def test_a_delete_is_made_sure_of(store: MongoStore, how: str) -> None:
    log = ChannelLog(store, start_ms=now_ms() - 60_000)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "secret")
    event = log.event(EventKind.DELETE, "u_ann", target_id=said.message_id, client_msg_id="del")
    await dies_after(store, event, announced=False)
    if how == "resend":
        await store.find_sent([SendKey(log.channel_id, "u_ann", "del")])
    else:
        await store.events([EventRange(log.channel_id, 2, 10)])
    found = await store.message(log.channel_id, said.message_id)
    assert found is not None and found.deleted and found.event.text is None


async def test_a_head_that_was_not_written_is_made_up_for_by_whoever_reads_the_log(
    store: MongoStore, mongo_url: str
) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "before")
    await store._trail.settle()
    said = await dies_after(store, log.event(EventKind.MESSAGE, "u_ann", text="last words"), announced=False)
    other = await open_mongo(mongo_url)
    try:
        assert await other.unread("u_bob", [log.channel_id]) == {log.channel_id: 1}
        await other.heads([log.channel_id])

        async def mended() -> bool:
            return await other.unread("u_bob", [log.channel_id]) == {log.channel_id: 2}

        assert await eventually(mended)
        assert await other.unread("u_ann", [log.channel_id]) == {log.channel_id: 0}
        (line,) = (await other.conversations("u_bob", cursor=None, limit=5, archived=False)).conversations
        assert line.seq == said.seq and line.last_message is not None and line.last_message.event == said
    finally:
        await other.aclose()


async def test_a_removal_that_a_copy_of_the_store_had_only_in_the_log_counts(store: MongoStore) -> None:
    """Nobody announced it there: the channels were copied before it, and the logs after."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await dies_after(store, log.event(EventKind.LEAVE, "u_bob", users=["u_bob"]), announced=False)
    assert isinstance(await store.grant(log.channel_id, "u_bob"), Grant)
    await store.heads([log.channel_id])

    async def gone() -> bool:
        return await store.grant(log.channel_id, "u_bob") is Absence.NOT_MEMBER

    assert await eventually(gone)


async def test_another_process_sees_heads_and_marks_soon(store: MongoStore, mongo_url: str) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 3)
    await store._trail.settle()
    other = await open_mongo(mongo_url)
    assert await other.unread("u_bob", [log.channel_id]) == {log.channel_id: 3}
    assert await other.unread("u_ann", [log.channel_id]) == {log.channel_id: 0}
    await other.aclose()
