"""A device that was away comes back with its cursors and gets exactly what is new; reads count on all devices."""

from __future__ import annotations

import asyncio

from support.api_calls import Person
from support.cluster import eventually
from support.crew import Crew
from support.rawsocket import RawSocket


async def unread_of(person: Person, channel: str) -> int:
    listed = await person.ok("GET", "/v1/channels")
    found = next(c for c in listed["conversations"] if c["channel_id"] == channel)
    return int(found["unread"])


async def test_a_device_that_was_away_gets_exactly_what_is_new(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channels = [await some.group(ann, bob) for _ in range(5)]
    speaker, phone = await some.socket(ann), await some.socket(bob)
    for channel in channels:
        await speaker.send(channel, "seen")
        await phone.event(channel, "seen")
    cursors = dict.fromkeys(channels, 2)
    await phone.close()
    busy, quiet = channels[0], channels[1]
    for channel in (busy, *channels[2:]):
        number = 260 if channel == busy else 3  # more than a page in the busy one
        for start in range(0, number, 100):
            keys = [f"new{n}" for n in range(start, min(start + 100, number))]
            await asyncio.gather(*(speaker.send(channel, key) for key in keys))
    await speaker.send(channels[4], "end")
    fresh = await some.group(ann, bob)
    await speaker.send(fresh, "in a new channel")
    gone = channels[3]
    await ann.ok("DELETE", f"/v1/channels/{gone}/members/{bob.id}")
    back = await some.socket(bob, cursors=cursors)
    assert [e["seq"] for e in back.events(busy)] == list(range(3, 263))
    assert back.events(quiet) == [] and back.events(gone) == []
    assert [e["seq"] for e in back.events(channels[2])] == [3, 4, 5]
    heads = {name: head["seq"] for f in back.of("page") for name, head in f.get("heads", {}).items()}
    assert heads == {busy: 262, quiet: 2, channels[2]: 5, channels[4]: 6, fresh: 2}
    assert [name for f in back.of("page") for name in f.get("left", [])] == [gone]
    assert all(len(f.get("events", [])) <= 200 for f in back.of("page"))
    await speaker.send(busy, "live again")
    assert (await back.event(busy, "live again"))["seq"] == 263


async def test_a_cursor_ahead_of_the_log_is_no_reason_to_hear_nothing(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    phone = await some.socket(bob, cursors={channel: 99})
    speaker = await some.socket(ann)
    await speaker.send(channel, "k")
    assert (await phone.event(channel, "k"))["seq"] == 2


async def test_unread_counts_follow_reads_on_another_device(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    bobs_laptop = await bob.another_device()
    speaker, phone = await some.socket(ann, one), await some.socket(bob, one)
    laptop = await some.socket(bobs_laptop, other)
    acks = [await speaker.send(channel, f"m{n}") for n in range(5)]
    reaction = await speaker.ask(
        "react", channel_id=channel, client_msg_id="r", message_id=acks[0]["message_id"], emoji="+1"
    )
    assert reaction["type"] == "ack"

    async def counted(number: int) -> bool:
        return await unread_of(bob, channel) == number

    await eventually(lambda: counted(5), 1.0)  # reactions are not messages
    await phone.ask("read", channel_id=channel, seq=acks[2]["seq"])
    receipt = await laptop.until(lambda f: f["type"] == "receipt" and f.get("unread") is not None)
    assert (receipt["channel_id"], receipt["unread"]) == (channel, 2)
    await eventually(lambda: counted(2), 1.0)
    # A watermark never goes back, and never beyond the head.
    await laptop.ask("read", channel_id=channel, seq=1)
    assert await unread_of(bob, channel) == 2
    await laptop.ask("read", channel_id=channel, seq=10_000)
    assert await unread_of(bob, channel) == 0
    await speaker.send(channel, "m9")
    await eventually(lambda: counted(1), 1.0)
    # What one sends oneself is read.
    await phone.send(channel, "mine")
    await eventually(lambda: counted(0), 1.0)


async def test_all_devices_of_a_sender_see_what_one_sends(some: Crew) -> None:
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    one, other = await some.cluster.ready()
    laptop = await some.socket(await ann.another_device(), other, msgpack=True)
    phone = await some.socket(ann, one)
    ack = await phone.send(channel, "k", "from the phone")
    for socket in (phone, laptop):
        event = await socket.event(channel, "k")
        assert (event["seq"], event["message_id"]) == (ack["seq"], ack["message_id"])


async def test_pages_of_the_largest_messages_get_through_to_a_client_that_reads(some: Crew) -> None:
    """More bytes than an outbox may hold, and others talk meanwhile."""
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    speaker = await some.socket(ann)
    text = "\u0001" * 16_000  # six times as long in JSON
    for start in range(0, 120, 40):
        await asyncio.gather(*(speaker.send(channel, f"m{start + n}", text) for n in range(40)))
    talking = True

    async def talk(socket: RawSocket) -> int:
        n = 0
        while talking:
            n += 1
            await socket.send(channel, f"live{n}")
        return n

    task = asyncio.create_task(talk(speaker))
    try:
        back = await some.socket(bob, cursors={channel: 1})
    finally:
        talking = False
    await task
    last = await speaker.send(channel, "last")
    await back.event(channel, "last")
    seqs = [event["seq"] for event in back.events(channel)]
    assert seqs == sorted(set(seqs)) == list(range(2, last["seq"] + 1))
    page = await back.ask("history", channel_id=channel, limit=200)
    assert page["type"] == "ack"
