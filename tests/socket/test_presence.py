"""Who is online, who is told, and when: leases of devices, renewed by their beats."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.api_calls import Person
from support.cluster import HEARTBEAT_S, OFFLINE_S, eventually
from support.crew import Crew
from support.rawsocket import Frame, RawSocket

SWEEP_S = 1.0
"""The worker looks about as often as that."""


def told(socket: RawSocket, person: Person) -> list[str]:
    """The states of a person that a socket was told of, in order."""
    return [e["state"] for f in socket.of("presence") for e in f["entries"] if e["user_id"] == person.id]


async def until_told(socket: RawSocket, person: Person, state: str, within_s: float) -> Frame:
    return await socket.until(
        lambda f: (
            f["type"] == "presence"
            and any(e["user_id"] == person.id and e["state"] == state for e in f["entries"])
        ),
        within_s,
    )


async def state_of(asker: Person, person: Person) -> dict[str, Any]:
    answer = await asker.ok("GET", f"/v1/presence?user_ids={person.id}")
    entry: dict[str, Any] = answer["entries"][0]
    return entry


async def befriend(one: Person, other: Person) -> None:
    await one.ok("PUT", f"/v1/friends/{other.id}")
    await other.ok("PUT", f"/v1/friends/{one.id}")


@pytest.fixture
async def friends(some: Crew) -> tuple[Person, Person, RawSocket]:
    """Two friends without a common channel; the first is connected and beats."""
    ann, bob = await some.people("ann", "bob")
    await befriend(ann, bob)
    pods = await some.cluster.ready()
    return ann, bob, await beating(some, ann, pods[0])


async def beating(some: Crew, person: Person, pod: str | None = None) -> RawSocket:
    socket = await some.socket(person, pod)

    async def beat() -> None:
        while socket.closed_with is None:
            await socket.say("ping")
            await asyncio.sleep(HEARTBEAT_S / 2)

    some.spawn(beat())
    return socket


async def test_friends_are_told_when_somebody_comes_and_goes_silent(
    some: Crew, friends: tuple[Person, Person, RawSocket]
) -> None:
    ann, bob, watcher = friends
    pods = await some.cluster.ready()
    silent = await some.socket(bob, pods[1], beats=False)
    await until_told(watcher, bob, "online", 2)
    assert (await state_of(ann, bob))["state"] == "online"
    silent_since = time.monotonic()
    frame = await until_told(watcher, bob, "offline", OFFLINE_S + HEARTBEAT_S + SWEEP_S + 2)
    assert frame["_at"] - silent_since >= OFFLINE_S - 0.5, "too early: a short tunnel must not show"
    entry = next(e for e in frame["entries"] if e["user_id"] == bob.id)
    assert abs(entry["last_active_at"] / 1000 - (time.time() - (time.monotonic() - silent_since))) < 2.5
    assert told(watcher, bob) == ["online", "offline"]
    assert (await state_of(ann, bob))["state"] == "offline"
    assert await silent.closed(3) == 4011


async def test_log_out_is_told_at_once(some: Crew, friends: tuple[Person, Person, RawSocket]) -> None:
    _, bob, watcher = friends
    await beating(some, bob)
    await until_told(watcher, bob, "online", 2)
    await bob.ok("DELETE", "/v1/sessions/current")
    await until_told(watcher, bob, "offline", 0.7)


async def test_a_person_is_online_while_any_device_is(
    some: Crew, friends: tuple[Person, Person, RawSocket]
) -> None:
    ann, bob, watcher = friends
    one, other = await some.cluster.ready()
    laptop = await bob.another_device()
    await beating(some, bob, one)
    await beating(some, laptop, other)
    await until_told(watcher, bob, "online", 2)
    await bob.ok("DELETE", "/v1/sessions/current")
    await asyncio.sleep(0.5)
    assert (await state_of(ann, bob))["state"] == "online"
    assert told(watcher, bob) == ["online"]
    await laptop.ok("DELETE", "/v1/sessions/current")
    await until_told(watcher, bob, "offline", 0.7)
    assert told(watcher, bob) == ["online", "offline"]


async def test_a_short_tunnel_does_not_show(some: Crew, friends: tuple[Person, Person, RawSocket]) -> None:
    _, bob, watcher = friends
    first = await some.socket(bob)
    await until_told(watcher, bob, "online", 2)
    await first.close()
    await asyncio.sleep(OFFLINE_S / 3)
    await beating(some, bob)
    await asyncio.sleep(OFFLINE_S + SWEEP_S)
    assert told(watcher, bob) == ["online"]


async def test_members_of_a_small_group_are_told_and_strangers_are_not(some: Crew) -> None:
    ann, bob, eve = await some.people("ann", "bob", "eve")
    await some.group(ann, bob)
    watcher, stranger = await beating(some, ann), await beating(some, eve)
    await beating(some, bob)
    await until_told(watcher, bob, "online", 2)
    await asyncio.sleep(0.3)
    assert told(stranger, bob) == []


async def test_who_is_watched_is_told_until_the_watch_is_replaced(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    watcher = await beating(some, ann)
    answer = await watcher.ask("presence.watch", user_ids=[bob.id])
    assert answer["type"] == "ack"
    assert told(watcher, bob) == ["offline"]
    await beating(some, bob)
    await until_told(watcher, bob, "online", 2)
    await watcher.ask("presence.watch", user_ids=[])
    await bob.ok("DELETE", "/v1/sessions/current")
    await asyncio.sleep(0.5)
    assert told(watcher, bob) == ["offline", "online"]


async def test_in_a_large_group_presence_is_read_on_request(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    crowd = await some.extras(60)
    channel = await some.group(ann, bob)
    for start in (0, 30):
        await ann.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": crowd[start : start + 30]})
    watcher = await beating(some, ann)
    talker = await beating(some, bob)

    async def online() -> bool:
        return (await state_of(ann, bob))["state"] == "online"

    await eventually(online, 2)
    await talker.say("typing", channel_id=channel, on=True)
    await asyncio.sleep(0.4)
    assert told(watcher, bob) == []
    assert watcher.of("typing") == []
    assert (await watcher.ask("presence.watch", channel_id=channel))["type"] == "ack"
    (frame,) = watcher.of("presence")
    states = {e["user_id"]: e["state"] for e in frame["entries"]}
    assert len(states) == 62
    assert states[bob.id] == states[ann.id] == "online"
    assert set(states.values()) == {"online", "offline"}
