"""Two people who open the same 1:1 at the same moment get one channel."""

from __future__ import annotations

import asyncio

from support.api_calls import Person
from support.crew import Crew, read_log

PEOPLE = 7


async def test_both_sides_at_once_many_pairs(some: Crew) -> None:
    people = await some.people(*["pal"] * PEOPLE)
    pairs = [(a, b) for a in people for b in people if a.id < b.id]

    async def open_(one: Person, other: Person) -> tuple[int, str]:
        response = await one.ask("POST", "/v1/channels", {"kind": "direct", "user_id": other.id})
        assert response.status_code in (200, 201), response.text
        return response.status_code, response.json()["channel_id"]

    async def both(a: Person, b: Person) -> str:
        answers = await asyncio.gather(open_(a, b), open_(b, a), open_(a, b))
        assert len({channel for _, channel in answers}) == 1, answers
        assert sorted(status for status, _ in answers).count(201) == 1, answers
        return answers[0][1]

    channels = await asyncio.gather(*(both(a, b) for a, b in pairs))
    assert len(set(channels)) == len(pairs)
    for channel, (a, b) in list(zip(channels, pairs, strict=True))[:5]:
        log = await read_log(some.cluster, channel)
        assert [event.kind for event in log] == ["created"]
        assert sorted(log[0].users or []) == [a.id, b.id]
    listed = await people[0].ok("GET", "/v1/channels?limit=50")
    assert len(listed["conversations"]) == PEOPLE - 1


async def test_connected_devices_of_both_hear_of_it_once(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    one, other = await some.cluster.ready()
    sockets = [await some.socket(ann, one), await some.socket(bob, other)]
    answers = await asyncio.gather(
        ann.ok("POST", "/v1/channels", {"kind": "direct", "user_id": bob.id}),
        bob.ok("POST", "/v1/channels", {"kind": "direct", "user_id": ann.id}),
    )
    channel = answers[0]["channel_id"]
    for socket in sockets:
        await socket.until(lambda f: f["type"] == "event" and f["kind"] == "created")
    assert (await sockets[0].send(channel, "k1"))["type"] == "ack"
    await sockets[1].event(channel, "k1")
    for socket in sockets:
        assert [event["seq"] for event in socket.events(channel)] == [1, 2]
