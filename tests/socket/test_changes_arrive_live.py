"""Edits, reactions and deletes arrive at once on all devices of all members; what was deleted is gone everywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.api_calls import Person
from support.crew import Crew
from support.rawsocket import Frame, RawSocket


class Room:
    """Ann has written a message; she and Bob have a device each on both pods."""

    def __init__(self, ann: Person, bob: Person, channel: str, devices: list[RawSocket], sent: Frame) -> None:
        self.ann, self.bob, self.channel = ann, bob, channel
        self.devices, self.message_id = devices, sent["message_id"]

    async def change(self, kind: str, key: str, by: int = 0, **fields: Any) -> list[Frame]:
        """Do it from one of the devices; the events that all of them had of it."""
        answer = await self.devices[by].ask(
            kind, channel_id=self.channel, client_msg_id=key, message_id=self.message_id, **fields
        )
        assert answer["type"] == "ack", answer
        found = await asyncio.gather(*(device.event(self.channel, key) for device in self.devices))
        assert {(e["seq"], e["target_id"]) for e in found} == {(answer["seq"], self.message_id)}
        return list(found)

    async def history(self, device: RawSocket) -> Frame:
        """The message as a page of history has it."""
        frame_id = await device.say("history", channel_id=self.channel)
        await device.answer(frame_id)
        (page,) = device.of("page", id=frame_id)
        return next(i for i in page["items"] if i["event"]["message_id"] == self.message_id)


@pytest.fixture
async def room(some: Crew) -> Room:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    devices = [
        await some.socket(ann, one),
        await some.socket(await ann.another_device(), other, msgpack=True),
        await some.socket(bob, other),
        await some.socket(await bob.another_device(), one, msgpack=True),
    ]
    sent = await devices[0].send(channel, "m", "the secret word")
    for device in devices:
        await device.event(channel, "m")
    return Room(ann, bob, channel, devices, sent)


async def test_an_edit(room: Room) -> None:
    events = await room.change("edit", "e", text="another word")
    assert {(e["kind"], e["text"], e["sender_id"]) for e in events} == {("edit", "another word", room.ann.id)}
    for device in room.devices:
        item = await room.history(device)
        assert (item["event"]["text"], "edited_at" in item) == ("another word", True)


async def test_a_reaction_set_and_taken_back(room: Room) -> None:
    events = await room.change("react", "r1", by=2, emoji="👋")
    assert {(e["kind"], e["emoji"], e["on"]) for e in events} == {("reaction", "👋", True)}
    for device in room.devices:
        assert (await room.history(device))["reactions"] == {"👋": [room.bob.id]}
    events = await room.change("react", "r2", by=3, emoji="👋", on=False)
    assert {(e["emoji"], e["on"]) for e in events} == {("👋", False)}
    for device in room.devices:
        assert not (await room.history(device)).get("reactions")


async def test_a_deleted_message_has_no_text_any_more_however_it_is_read(some: Crew, room: Room) -> None:
    await room.change("edit", "e", text="the secret words")
    events = await room.change("delete", "d")
    assert {e["kind"] for e in events} == {"delete"} and all("text" not in e for e in events)
    for device in room.devices:
        item = await room.history(device)
        assert item["deleted"] and "text" not in item["event"]
    late = await some.socket(await room.bob.another_device(), cursors={room.channel: 1})
    kinds = [e["kind"] for e in late.events(room.channel)]
    assert kinds == ["message", "edit", "delete"]
    answer = await room.devices[2].ask("sync", cursors={room.channel: 1})
    assert answer["type"] == "ack"
    frames = (await room.ann.frame("history", channel_id=room.channel))["frames"]
    listed = await room.bob.ok("GET", "/v1/channels")
    paged = [frame for frame in room.devices[2].frames if frame["type"] == "page"]
    assert "secret" not in str([late.frames, paged, frames, listed])
