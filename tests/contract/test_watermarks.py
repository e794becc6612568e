"""Watermarks move forward only, and unread counts follow from them."""

from __future__ import annotations

import asyncio

from channel_log import ChannelLog

from chatkernel.protocol import EventKind
from chatkernel.storage.model import Watermark, WatermarkState
from chatkernel.storage.open import Store


async def unread(store: Store, log: ChannelLog, user_id: str) -> int:
    return (await store.unread(user_id, [log.channel_id, "local_gnone"]))[log.channel_id]


async def read(store: Store, log: ChannelLog, user_id: str, seq: int, delivered: int = 0) -> WatermarkState:
    [state] = await store.put_watermarks([Watermark(log.channel_id, user_id, seq, delivered)])
    assert state is not None
    return state


async def test_only_messages_are_unread(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "one")
    await log.append(EventKind.REACTION, "u_ann", target_id=said.message_id, emoji="x", on=True)
    await log.append(EventKind.RENAME, "u_ann", name="x")
    await log.say("u_ann", "two")
    assert await unread(store, log, "u_bob") == 2
    assert (await read(store, log, "u_bob", 2)).unread == 1
    assert (await read(store, log, "u_bob", 4)).unread == 1
    assert (await read(store, log, "u_bob", 5)).unread == 0
    assert await unread(store, log, "u_bob") == 0
    assert await store.unread("u_eve", [log.channel_id]) == {}


async def test_sending_reads_up_to_it(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 3)
    await log.say("u_bob", "answer")
    assert await unread(store, log, "u_bob") == 0
    assert await unread(store, log, "u_ann") == 1
    members = {member.user_id: member for member in await store.members(log.channel_id)}
    assert (members["u_bob"].read_seq, members["u_bob"].delivered_seq) == (5, 5)
    assert members["u_ann"].read_seq == 4


async def test_never_back_and_never_past_the_head(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 3)
    assert await read(store, log, "u_bob", 3) == WatermarkState(log.channel_id, "u_bob", 3, 3, 1, True)
    assert await read(store, log, "u_bob", 2) == WatermarkState(log.channel_id, "u_bob", 3, 3, 1, False)
    assert await read(store, log, "u_bob", 0, 4) == WatermarkState(log.channel_id, "u_bob", 3, 4, 1, True)
    assert await read(store, log, "u_bob", 10**9, 10**9) == WatermarkState(
        log.channel_id, "u_bob", 4, 4, 0, True
    )


async def test_a_batch_answers_each(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", "u_cem")
    await log.say_many("u_ann", 3)
    marks = [
        Watermark(log.channel_id, "u_bob", 2),
        Watermark(log.channel_id, "u_eve", 2),
        Watermark(log.channel_id, "u_bob", 4),
        Watermark("local_gnone", "u_bob", 4),
        Watermark(log.channel_id, "u_cem", 0, 3),
    ]
    states = await store.put_watermarks(marks)
    assert [state and (state.read_seq, state.delivered_seq, state.moved) for state in states] == [
        (4, 4, True),
        None,
        (4, 4, True),
        None,
        (0, 3, True),
    ]
    assert await store.put_watermarks([]) == []


async def test_what_was_before_ones_time_is_not_unread(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", 3)
    await log.append(EventKind.JOIN, "u_ann", users=["u_cem"])
    assert await unread(store, log, "u_cem") == 0
    await log.say("u_ann", "welcome")
    assert await unread(store, log, "u_cem") == 1
    assert (await read(store, log, "u_cem", 2)).unread == 1
    assert (await read(store, log, "u_cem", 6)).unread == 0


async def test_marks_that_are_moved_at_once_end_at_the_furthest(store: Store) -> None:
    """From several pods, while the person sends: no mark goes back, and no count goes wrong."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_bob", 20)

    async def send() -> None:
        for _ in range(5):
            await log.say("u_ann", "x")

    async def mark(seq: int) -> None:
        [state] = await store.put_watermarks([Watermark(log.channel_id, "u_ann", seq, seq)])
        assert state is not None and state.read_seq >= seq and state.unread >= 0

    await asyncio.gather(send(), *(mark(seq) for seq in range(21, 1, -1)))
    ann = next(member for member in await store.members(log.channel_id) if member.user_id == "u_ann")
    assert (ann.read_seq, await store.unread("u_ann", [log.channel_id])) == (26, {log.channel_id: 0})
