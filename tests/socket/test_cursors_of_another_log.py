"""A cursor of another log (the store was restored from a backup, or it is another cluster's) is not trusted."""

from __future__ import annotations

from typing import Any

import pytest
from support.api_calls import Person
from support.crew import Crew
from support.rawsocket import Frame, RawSocket, seat

MESSAGES = 4


class Room:
    """A group whose log is `created` and some messages; `ids` are the message ids by seq."""

    def __init__(self, owner: Person, channel: str, ids: dict[int, int]) -> None:
        self.owner, self.channel, self.ids = owner, channel, ids
        self.head = max(ids)


@pytest.fixture
async def room(some: Crew) -> Room:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    socket = await some.socket(ann)
    acks = [await socket.send(channel, f"k{n}") for n in range(MESSAGES)]
    return Room(bob, channel, {ack["seq"]: ack["message_id"] for ack in acks})


def strange_cursors(room: Room) -> list[Any]:
    return [
        room.head + 1,
        (1 << 53) - 1,
        {"seq": room.head + 1},
        {"seq": room.head, "cur_max_message_id": room.ids[room.head] + 1},
        {"seq": room.head - 1, "cur_max_message_id": room.ids[room.head]},
        {"seq": 1, "cur_max_message_id": 7},
    ]


def good_cursors(room: Room) -> list[tuple[Any, int]]:
    """Cursors, and how many events are after them."""
    return [
        (room.head, 0),
        ({"seq": room.head}, 0),
        ({"seq": room.head, "cur_max_message_id": room.ids[room.head]}, 0),
        ({"seq": room.head - 2, "cur_max_message_id": room.ids[room.head - 2]}, 2),
        ({"seq": room.head - 2, "cur_max_message_id": 0}, 2),
        ({"seq": 0, "cur_max_message_id": 5}, room.head),
    ]


def is_reset(frames: list[Frame], room: Room) -> bool:
    """Told to begin anew, and where; and no event, for it is not known which are new."""
    resyncs = [f for f in frames if f["type"] == "resync"]
    pages = [f for f in frames if f["type"] == "page"]
    heads = [page["heads"][room.channel] for page in pages if room.channel in page.get("heads", {})]
    assert not [e for page in pages for e in page.get("events", [])]
    assert heads == [{"seq": room.head, "message_id": room.ids[room.head]}]
    return [(f.get("channel_ids"), f.get("reset")) for f in resyncs] == [([room.channel], True)]


async def test_by_hello(some: Crew, room: Room) -> None:
    for cursor in strange_cursors(room):
        socket = await some.socket(room.owner, cursors={room.channel: cursor})
        assert is_reset(socket.frames, room), cursor
        await socket.ask("ping")
        pong = socket.of("pong")[-1]
        assert (pong["head_sum"], pong["channels"]) == (room.head, 1)
        await socket.close()
    for cursor, behind in good_cursors(room):
        socket = await some.socket(room.owner, cursors={room.channel: cursor})
        assert len(socket.events(room.channel)) == behind and not socket.of("resync"), cursor
        await socket.close()


async def test_by_sync(some: Crew, room: Room) -> None:
    socket = await some.socket(room.owner)
    for cursor in strange_cursors(room):
        start = len(socket.frames)
        assert (await socket.ask("sync", cursors={room.channel: cursor}))["type"] == "ack"
        assert is_reset(socket.frames[start:], room), cursor
    for cursor, behind in good_cursors(room):
        seen = len(socket.events(room.channel))
        assert (await socket.ask("sync", cursors={room.channel: cursor}))["type"] == "ack"
        assert len(socket.events(room.channel)) - seen == behind, cursor
    assert len(socket.of("resync")) == len(strange_cursors(room))


async def test_by_http(room: Room) -> None:
    for cursor in strange_cursors(room):
        frames = (await room.owner.frame("sync", cursors={room.channel: cursor}))["frames"]
        assert is_reset(frames, room), cursor


async def test_the_first_run_of_a_room_knows_it_too(some: Crew, room: Room) -> None:
    """Here nobody has opened the room yet, and its head is read for the one who comes."""
    pods = await some.cluster.ready()
    for pod in pods:
        cursor = {"seq": room.head, "cur_max_message_id": room.ids[room.head] + 1}
        taken = await seat(room.owner, pod)
        socket = await some.raw(taken["url"])
        await socket.ask("hello", ticket=taken["ticket"], cursors={room.channel: cursor})
        assert is_reset(socket.frames, room)


async def test_of_a_channel_that_one_is_not_in_nothing_is_told(some: Crew, room: Room) -> None:
    (eve,) = await some.people("eve")
    socket: RawSocket = await some.socket(eve, cursors={room.channel: 99})
    await socket.ask("sync", cursors={room.channel: 99})
    assert not socket.of("resync")
    assert [page["left"] for page in socket.of("page") if "left" in page] == [[room.channel]] * 2


@pytest.mark.parametrize(
    "cursor", [{"seq": -1}, {"seq": 1 << 53}, {}, {"seq": 1, "cur_max_message_id": -1}, "7", None]
)
async def test_what_is_no_cursor_is_refused(some: Crew, cursor: Any) -> None:
    (ann,) = await some.people("ann")
    socket = await some.socket(ann)
    answer = await socket.ask("sync", cursors={"local_g1": cursor})
    assert (answer["type"], answer["code"]) == ("error", "invalid_field"), answer
    assert str(answer["field"]).startswith("cursors"), answer
