"""Promise 8: nobody reads or writes a channel they are not in; a removed member stops receiving at once, on all
devices."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from breaks import Breaks
from support.api_calls import Person
from support.cluster import HEARTBEAT_S, Cluster
from support.crew import Crew, crew, read_log
from support.rawsocket import Frame, RawSocket

from chatkernel.protocol import Event, EventKind

READING = ("history", "sync", "read", "delivered", "typing")


@dataclass
class Removal:
    channel: str
    removed: str
    log: list[Event] = field(default_factory=list)
    seen: list[Frame] = field(default_factory=list)
    """Everything about the channel that came to the removed member's devices."""

    @property
    def removed_at(self) -> int:
        return next(event.seq for event in self.log if event.kind is EventKind.LEAVE)


async def remove_while_all_talk(some: Crew) -> Removal:
    """Eve has two devices on two pods and talks herself, while she is removed in the middle of a conversation."""
    ann, eve = await some.people("ann", "eve")
    channel = await some.group(ann, eve)
    found = Removal(channel, eve.id)
    pods = await some.cluster.ready()
    speakers = [await some.socket(ann, pod) for pod in pods[:2]]
    eve_too = await eve.another_device()
    eves = [await some.socket(eve, pods[0]), await some.socket(eve_too, pods[1])]

    async def talk(socket: RawSocket, name: str) -> None:
        for n in range(40):
            await socket.send(channel, f"{name}-{n}")

    talking = [asyncio.create_task(talk(s, f"s{n}")) for n, s in enumerate([*speakers, *eves])]
    await eves[0].event(channel, "s0-5")
    await ann.ok("DELETE", f"/v1/channels/{channel}/members/{eve.id}")
    await asyncio.gather(*talking)
    await speakers[0].send(channel, "last")
    await asyncio.sleep(HEARTBEAT_S / 2)
    found.log = await read_log(some.cluster, channel)
    for socket in eves:
        found.seen += [f for f in socket.frames if f.get("channel_id") == channel and f["type"] != "ack"]
        found.seen += socket.events(channel)
    return found


def assert_it_ended_with_the_removal(found: Removal) -> None:
    late = [f for f in found.seen if f["type"] == "event" and f["seq"] > found.removed_at]
    assert late == [], f"{len(late)} events came after the removal"
    written = [e.seq for e in found.log if e.sender_id == found.removed and e.seq > found.removed_at]
    assert written == [], "somebody wrote after being removed"
    before = [f for f in found.seen if f["type"] == "event" and f["seq"] < found.removed_at]
    assert before and found.log[-1].seq > found.removed_at


async def test_a_removed_member_stops_receiving_and_writing_at_once(cluster: Cluster) -> None:
    async with crew(cluster) as some:
        assert_it_ended_with_the_removal(await remove_while_all_talk(some))


async def test_a_pod_that_keeps_removed_members_is_caught(breakable: Cluster, breaks: Breaks) -> None:
    async with crew(breakable) as some:
        with breaks.on("keeps_removed_members"):
            found = await remove_while_all_talk(some)
        with pytest.raises(AssertionError, match="after the removal"):
            assert_it_ended_with_the_removal(found)


def attempts(channel: str, message_id: int) -> list[dict[str, Any]]:
    """One of each frame that names a channel."""
    about = {"channel_id": channel}
    new = {**about, "client_msg_id": "x1"}
    return [
        {"kind": "send", **new, "text": "let me in"},
        {"kind": "send", **new, "text": "let me in", "reply_to": message_id},
        {"kind": "edit", **new, "message_id": message_id, "text": "changed"},
        {"kind": "delete", **new, "message_id": message_id},
        {"kind": "react", **new, "message_id": message_id, "emoji": "+1"},
        {"kind": "read", **about, "seq": 1},
        {"kind": "delivered", **about, "seq": 1},
        {"kind": "typing", **about, "on": True},
        {"kind": "history", **about},
        {"kind": "history", **about, "around": message_id},
        {"kind": "presence.watch", **about, "user_ids": []},
    ]


@pytest.mark.parametrize("was_in", [False, True], ids=["stranger", "removed"])
async def test_nothing_can_be_done_from_outside(cluster: Cluster, was_in: bool) -> None:
    async with crew(cluster) as some:
        ann, eve = await some.people("ann", "eve")
        channel = await some.group(ann, *([eve] if was_in else []))
        socket = await some.socket(eve)
        speaker = await some.socket(ann)
        sent = await speaker.send(channel, "m1", "only for us")
        if was_in:
            await ann.ok("DELETE", f"/v1/channels/{channel}/members/{eve.id}")
        before = await read_log(cluster, channel)
        for attempt in attempts(channel, sent["message_id"]):
            fields = {k: v for k, v in attempt.items() if k != "kind"}
            answer = await socket.ask(attempt["kind"], **fields)
            assert (answer["type"], answer.get("code")) == ("error", "channel_not_found"), attempt
            response = await eve.ask("POST", "/v1/frames", {"type": attempt["kind"], "id": "f", **fields})
            assert response.status_code == 404, (attempt, response.text)
        await sync_gives_nothing(eve, socket, channel)
        await routes_give_nothing(eve, ann, channel)
        assert await read_log(cluster, channel) == before
        assert [f for f in speaker.of("typing") if f["user_id"] == eve.id] == []
        if not was_in:
            assert "only for us" not in str(socket.frames)


async def sync_gives_nothing(eve: Person, socket: RawSocket, channel: str) -> None:
    seen = len(socket.frames)
    answer = await socket.ask("sync", cursors={channel: 0})
    assert answer["type"] == "ack"
    pages = [f for f in socket.frames[seen:] if f["type"] == "page"]
    assert [page.get("events", []) for page in pages] == [[] for _ in pages]
    assert any(channel in page.get("left", []) for page in pages)
    frames = (await eve.frame("sync", cursors={channel: 0}))["frames"]
    assert all(not frame.get("events") for frame in frames)


async def routes_give_nothing(eve: Person, ann: Person, channel: str) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "Mine"}),
        ("GET", "/members", None),
        ("POST", "/members", {"user_ids": [eve.id]}),
        ("DELETE", f"/members/{ann.id}", None),
        ("PUT", f"/members/{eve.id}/role", {"role": "owner"}),
        ("PATCH", "/me", {"pinned": True}),
        ("GET", "/receipts", None),
    ):
        response = await eve.ask(method, f"/v1/channels/{channel}{path}", body)
        assert response.status_code == 404, (method, path, response.text)
    listed = await eve.ok("GET", "/v1/channels")
    assert channel not in str(listed)
