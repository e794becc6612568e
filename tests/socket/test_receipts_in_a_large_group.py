"""The cost of receipts in a group of 500 is bounded: watermarks, coalesced, not 500 × 500 frames."""

from __future__ import annotations

import asyncio
from typing import Any

from support.api_calls import Person
from support.crew import Crew

MEMBERS, CONNECTED, MESSAGES = 500, 20, 5


async def test_everybody_reads_everything_and_few_frames_go(some: Crew) -> None:
    people = await some.people(*["reader"] * CONNECTED)
    owner = people[0]
    channel = await some.group(owner, *people[1:])
    await owner.ok(
        "POST",
        f"/v1/channels/{channel}/members",
        {"user_ids": await some.extras(MEMBERS - CONNECTED)},
    )
    sockets = await asyncio.gather(*(some.socket(person) for person in people))
    assert len({socket.pod for socket in sockets}) == 2
    for n in range(MESSAGES):
        sent = await sockets[0].send(channel, f"m{n}")
        await asyncio.gather(*(socket.event(channel, f"m{n}") for socket in sockets))
        await asyncio.gather(*(s.ask("read", channel_id=channel, seq=sent["seq"]) for s in sockets))
    await asyncio.sleep(0.7)
    for person, socket in zip(people, sockets, strict=True):
        receipts = socket.of("receipt", channel_id=channel)
        # Only one's own, and at most one for each flush of each pod.
        assert {entry[0] for frame in receipts for entry in frame["entries"]} <= {person.id}
        assert len(receipts) <= MESSAGES + 1
    read = {entry[0]: entry[1] for entry in await all_receipts(owner, channel)}
    assert {read[person.id] for person in people} == {sent["seq"]} and len(read) == MEMBERS


async def test_the_last_to_be_added_does_not_flood_the_others(some: Crew) -> None:
    """The only member on a pod, put into a large group while connected: that pod knows how large it is, too."""
    owner, late = await some.people("owner", "late")
    one, other = await some.cluster.ready()
    channel = await some.group(owner)
    extras = await some.extras(100)
    await owner.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": extras})
    watcher, newcomer = await some.socket(owner, one), await some.socket(late, other)
    await owner.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": [late.id]})
    await newcomer.until(lambda f: f["type"] == "event" and f["kind"] == "join")
    sent = await watcher.send(channel, "m1")
    await newcomer.event(channel, "m1")
    await newcomer.ask("read", channel_id=channel, seq=sent["seq"])
    await newcomer.say("typing", channel_id=channel, on=True)
    await asyncio.sleep(0.7)
    assert [f for f in watcher.of("receipt") if late.id in str(f)] == []
    assert watcher.of("typing") == []


async def test_in_a_small_group_many_moves_are_one_frame(some: Crew) -> None:
    people = await some.people("ann", "bob", "cleo")
    channel = await some.group(*people)
    pods = await some.cluster.ready()
    sockets = [await some.socket(person, pods[n % 2]) for n, person in enumerate(people)]
    for n in range(30):
        await sockets[0].send(channel, f"m{n}")
    answers = [await sockets[1].say("read", channel_id=channel, seq=n + 2) for n in range(30)]
    await asyncio.gather(*(sockets[1].answer(frame_id) for frame_id in answers))
    last = [people[1].id, 31, 31]
    for watcher in (sockets[0], sockets[2]):
        await watcher.until(lambda f: f["type"] == "receipt" and last in f["entries"])
        moved = [f for f in watcher.of("receipt") if people[1].id in str(f["entries"])]
        assert len(moved) <= 3


async def all_receipts(asker: Person, channel: str) -> list[list[Any]]:
    """[user id, read, delivered] of each member, page by page."""
    found: list[list[Any]] = []
    after = ""
    while True:
        page = await asker.ok("GET", f"/v1/channels/{channel}/receipts", params={"after": after})
        found += page["entries"]
        after = page.get("next_after")
        if not after:
            return found
