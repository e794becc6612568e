"""Storing runs: all or none of a run, each run by itself, and the two unique keys."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from channel_log import ChannelLog

from chatkernel.protocol import EventKind
from chatkernel.storage.model import ChannelInfo, ChannelKind, EventRange, Head, InsertOutcome, Run, SendKey
from chatkernel.storage.open import Store

STORED, REFUSED = InsertOutcome.STORED, InsertOutcome.REFUSED


async def stored(store: Store, log: ChannelLog) -> list[int]:
    [events] = await store.events([EventRange(log.channel_id, 0, 1000)])
    return [event.seq for event in events]


async def test_head_follows_the_log(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "hi")
    assert await store.heads([log.channel_id, "local_gnone"]) == {
        log.channel_id: Head(seq=2, message_id=said.message_id, messages=1, members_seq=1)
    }


async def test_a_taken_seq_refuses_only_that_run(store: Store) -> None:
    first, second, third = ChannelLog(store), ChannelLog(store), ChannelLog(store)
    for log in (first, second, third):
        await log.create("u_ann", "u_bob")
    await second.say("u_bob", "there first")
    second.seq -= 1
    runs = [
        Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text="x", client_msg_id="mine"),))
        for log in (first, second, third)
    ]
    assert await store.insert(runs) == [STORED, REFUSED, STORED]
    assert await stored(store, second) == [1, 2]
    assert (await store.message(second.channel_id, runs[1].events[0].message_id)).event.text == "there first"  # type: ignore[union-attr]


async def test_a_resend_is_refused_and_can_be_found(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    sent = await log.say("u_ann", "once", client_msg_id="same")
    again = log.event(EventKind.MESSAGE, "u_ann", text="twice", client_msg_id="same")
    assert await store.insert([Run(log.channel_id, (again,))]) == [REFUSED]
    key = SendKey(log.channel_id, "u_ann", "same")
    others = [SendKey(log.channel_id, "u_bob", "same"), SendKey(log.channel_id, "u_ann", "other")]
    assert await store.find_sent([*others, key, key]) == {key: sent}


@pytest.mark.parametrize("client_msg_id", ["a\0b", "é'\"\\", "🙂", " "])
async def test_odd_client_message_ids_are_told_apart(store: Store, client_msg_id: str) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "plain", client_msg_id="a")
    odd = await log.say("u_ann", "odd", client_msg_id=client_msg_id)
    key = SendKey(log.channel_id, "u_ann", client_msg_id)
    assert await store.find_sent([key]) == {key: odd}


async def test_a_refused_run_leaves_a_dense_log(store: Store) -> None:
    """Nothing of it is stored, or without transactions its beginning: never what stands behind the refused event."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say("u_ann", "x", client_msg_id="taken")
    run = Run(
        log.channel_id,
        (
            log.event(EventKind.MESSAGE, "u_ann", text="new", client_msg_id="new"),
            log.event(EventKind.MESSAGE, "u_ann", text="old", client_msg_id="taken"),
            log.event(EventKind.MESSAGE, "u_ann", text="behind", client_msg_id="behind"),
        ),
    )
    assert await store.insert([run]) == [REFUSED]
    seqs = await stored(store, log)
    assert seqs in ([1, 2], [1, 2, 3])
    found = await store.find_sent([SendKey(log.channel_id, "u_ann", name) for name in ("new", "behind")])
    assert [key.client_msg_id for key in found] == ["new"] * (len(seqs) - 2)
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == len(seqs)


async def test_runs_of_one_channel_in_one_call_are_stored_in_turn(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    runs = [Run(log.channel_id, (log.event(EventKind.MESSAGE, "u_ann", text=str(n)),)) for n in range(3)]
    twin = Run(log.channel_id, (msgspec.structs.replace(runs[2].events[0], client_msg_id="twin"),))
    assert await store.insert([*runs, twin]) == [STORED, STORED, STORED, REFUSED]
    assert await stored(store, log) == [1, 2, 3, 4]


async def test_a_channel_is_created_once(store: Store) -> None:
    """Two people opening the same pair at once: one wins, and the log has one CREATED."""
    a, b = ChannelLog(store, "local_ppair"), ChannelLog(store, "local_ppair")
    info = ChannelInfo("local_ppair", ChannelKind.DIRECT, "", True)
    runs = [
        Run("local_ppair", (log.event(EventKind.CREATED, user, client_msg_id=user, users=users),), info)
        for log, user, users in ((a, "u_ann", ["u_ann", "u_bob"]), (b, "u_bob", ["u_bob", "u_ann"]))
    ]
    outcomes = await asyncio.gather(*(store.insert([run]) for run in runs))
    assert sorted(outcome for [outcome] in outcomes) == [REFUSED, STORED]
    assert await stored(store, a) == [1]


async def test_writers_of_one_channel_leave_a_dense_log(store: Store) -> None:
    """Sixteen appenders that know nothing of each other, each retrying on the head it then reads."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")

    async def append(writer: int, number: int) -> None:
        while True:
            head = (await store.heads([log.channel_id]))[log.channel_id]
            mine = ChannelLog(store, log.channel_id)
            mine.seq, mine.messages, mine.members_seq = head.seq, head.messages, head.members_seq
            event = mine.event(EventKind.MESSAGE, f"u_{writer}", text="x", client_msg_id=str(number))
            if await store.insert([Run(log.channel_id, (event,))]) == [STORED]:
                return

    await asyncio.gather(*(append(writer, number) for writer in range(16) for number in range(3)))
    [events] = await store.events([EventRange(log.channel_id, 0, 1000)])
    assert [event.seq for event in events] == list(range(1, 50))
    assert [event.messages_before for event in events] == [0, *range(48)]
    assert len({(event.sender_id, event.client_msg_id) for event in events}) == 49


async def test_every_field_comes_back(store: Store) -> None:
    log = ChannelLog(store)
    made = await log.create("u_ann", "u_bob", name="Plan “B” 🙂")
    said = await log.say(
        "u_ann",
        "zero \0 and \u2028 and 🙂",
        reply_to=made.message_id,
        metadata={"a": [1, 2.5, None, {"b": "\0"}], "n": 2**53},
    )
    react = await log.append(EventKind.REACTION, "u_bob", target_id=said.message_id, emoji="👍", on=False)
    assert await store.events([EventRange(log.channel_id, 0, 10)]) == [[made, said, react]]
