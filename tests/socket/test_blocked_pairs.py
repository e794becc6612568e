"""After a block nothing of one's doings reaches the other: not typing, not receipts, not being online."""

from __future__ import annotations

from typing import Any

import pytest
from support.api_calls import Person
from support.cluster import eventually
from support.crew import Crew
from support.rawsocket import RawSocket

from chatkernel.errors import Close


class Pair:
    """Two people with a 1:1, connected to different pods. Ann writes `channel` and may block Bob."""

    def __init__(self, ann: Person, bob: Person, channel: str, anns: RawSocket, bobs: RawSocket) -> None:
        self.ann, self.bob, self.channel = ann, bob, channel
        self.anns, self.bobs = anns, bobs

    async def reaches(self, sender: RawSocket, hearer: RawSocket, group: str, key: str) -> None:
        """Everything that the sender has told before this has come, or never comes: one link, in order."""
        await sender.send(group, key)
        await hearer.event(group, key)


@pytest.fixture
async def pair(some: Crew) -> Pair:
    ann, bob = await some.people("ann", "bob")
    state = await ann.ok("POST", "/v1/channels", {"kind": "direct", "user_id": bob.id})
    one, other = await some.cluster.ready()
    anns, bobs = await some.socket(ann, one), await some.socket(bob, other)
    return Pair(ann, bob, str(state["channel_id"]), anns, bobs)


async def test_typing_stops_at_a_block_and_comes_back_after_it(some: Crew, pair: Pair) -> None:
    common = await some.group(pair.ann, pair.bob)
    for sender, hearer, who in ((pair.anns, pair.bobs, pair.ann), (pair.bobs, pair.anns, pair.bob)):
        await sender.ask("typing", channel_id=pair.channel, on=True)
        await hearer.until(lambda f, who=who: f["type"] == "typing" and f["user_id"] == who.id)
    await pair.ann.ok("PUT", f"/v1/blocks/{pair.bob.id}")
    await until_blocked(pair)
    before = [len(socket.of("typing")) for socket in (pair.anns, pair.bobs)]
    for sender, hearer, key in ((pair.anns, pair.bobs, "a"), (pair.bobs, pair.anns, "b")):
        answer = await sender.ask("typing", channel_id=pair.channel, on=False)
        assert answer["type"] == "ack"
        await pair.reaches(sender, hearer, common, key)
    assert [len(socket.of("typing")) for socket in (pair.anns, pair.bobs)] == before
    # By HTTP, on a pod that remembers nothing of the pair and has to ask.
    frame = {"type": "typing", "id": "t", "channel_id": pair.channel, "on": True}
    await pair.ann.ok("POST", "/v1/frames", frame)
    await pair.reaches(pair.anns, pair.bobs, common, "c")
    assert len(pair.bobs.of("typing")) == before[1]
    await pair.ann.ok("DELETE", f"/v1/blocks/{pair.bob.id}")
    await until_open(pair)
    await pair.anns.ask("typing", channel_id=pair.channel, on=False)
    await pair.bobs.until(lambda f: f["type"] == "typing" and not f["on"])


async def test_receipts_are_told_to_the_own_devices_only(some: Crew, pair: Pair) -> None:
    common = await some.group(pair.ann, pair.bob)
    sent = await pair.bobs.send(pair.channel, "k1")
    await pair.anns.event(pair.channel, "k1")
    await pair.anns.ask("delivered", channel_id=pair.channel, seq=sent["seq"])
    mark = [pair.ann.id, 0, sent["seq"]]
    await pair.bobs.until(lambda f: f["type"] == "receipt" and mark[0] in str(f["entries"]))
    told = receipts_of(pair.bobs, pair.ann)
    await pair.ann.ok("PUT", f"/v1/blocks/{pair.bob.id}")
    for n in range(100):  # a reaction, as sending would move the watermark
        fields = {"message_id": sent["message_id"], "emoji": "👍", "on": n % 2 == 0}
        reacted = await pair.anns.ask("react", channel_id=pair.channel, client_msg_id=f"r{n}", **fields)
        if reacted["type"] == "error":
            break
    assert reacted["code"] == "blocked"
    answer = await pair.anns.ask("read", channel_id=pair.channel, seq=sent["seq"])
    assert answer["type"] == "ack"
    moved = [pair.ann.id, sent["seq"], sent["seq"]]
    await pair.anns.until(lambda f: f["type"] == "receipt" and moved in f["entries"])
    await pair.reaches(pair.anns, pair.bobs, common, "after")
    assert receipts_of(pair.bobs, pair.ann) == told


async def test_who_has_blocked_me_reads_as_offline_and_the_others_do_not(some: Crew, pair: Pair) -> None:
    (eve,) = await some.people("eve")
    await some.group(pair.ann, pair.bob, eve)
    await some.socket(eve)
    everyone = [pair.ann.id, pair.bob.id, eve.id]
    assert {e["state"] for e in await seen_by(pair.bob, everyone)} == {"online"}
    await pair.ann.ok("PUT", f"/v1/blocks/{pair.bob.id}")
    blocker, *others = await seen_by(pair.bob, everyone)
    assert (blocker["state"], blocker.get("last_active_at")) == ("offline", None)
    assert [e["state"] for e in others] == ["online", "online"]
    for fields in ({"user_ids": [pair.ann.id]}, {"channel_id": pair.channel}):
        frame_id = await pair.bobs.say("presence.watch", **fields)
        await pair.bobs.answer(frame_id)
        (frame,) = pair.bobs.of("presence", id=frame_id)
        entry = next(e for e in frame["entries"] if e["user_id"] == pair.ann.id)
        assert (entry["state"], entry.get("last_active_at")) == ("offline", None)
    # The blocker still sees: it is not they who hide from themselves.
    assert {e["state"] for e in await seen_by(pair.ann, everyone)} == {"online"}
    await pair.ann.ok("DELETE", f"/v1/blocks/{pair.bob.id}")
    assert {e["state"] for e in await seen_by(pair.bob, everyone)} == {"online"}


async def test_coming_and_going_is_not_pushed_to_whom_one_has_blocked(some: Crew, pair: Pair) -> None:
    """Not by the 1:1, a common group, a watch, or what was a friendship: whichever service tells of it."""
    (eve,) = await some.people("eve")
    await some.group(pair.ann, pair.bob, eve)
    for one, other in ((pair.ann, pair.bob), (pair.bob, pair.ann)):
        await one.ok("PUT", f"/v1/friends/{other.id}")
    laptop = await pair.ann.another_device()
    eves = await some.socket(eve, pair.bobs.pod)
    some.keep_alive(eves, pair.bobs)
    for socket in (eves, pair.bobs):
        assert (await socket.ask("presence.watch", user_ids=[pair.ann.id]))["type"] == "ack"
    await pair.ann.ok("PUT", f"/v1/blocks/{pair.bob.id}")
    before = told(pair.bobs, pair.ann)

    async def eve_hears(*states: str) -> None:
        """Eve is on Bob's pod: what she has been told he has been told, too, or never will be."""

        async def look() -> bool:
            return told(eves, pair.ann)[-len(states) :] == list(states)

        await eventually(look, 10)
        assert (await pair.bobs.ask("ping"))["type"] == "pong"

    await pair.ann.ok("DELETE", "/v1/sessions/current")  # told by the API pod
    await eve_hears("offline")
    silent = await some.socket(laptop, pair.anns.pod, beats=False)  # told by the chat pod
    await eve_hears("offline", "online")
    await eve_hears("offline", "online", "offline")  # told by the worker, when the lease has run out
    assert await silent.closed() == Close.HEARTBEAT_TIMEOUT
    assert told(pair.bobs, pair.ann) == before
    await laptop.ok("DELETE", f"/v1/blocks/{pair.bob.id}")
    await some.socket(laptop, pair.anns.pod)
    await eve_hears("offline", "online", "offline", "online")
    assert told(pair.bobs, pair.ann) == [*before, "online"]


def told(socket: RawSocket, person: Person) -> list[str]:
    return [e["state"] for f in socket.of("presence") for e in f["entries"] if e["user_id"] == person.id]


async def until_blocked(pair: Pair) -> None:
    """Both pods know, by the answers to sends."""
    for n, socket in enumerate((pair.anns, pair.bobs)):
        await _until_answered(socket, pair.channel, f"blocked{n}", "error")


async def until_open(pair: Pair) -> None:
    for n, socket in enumerate((pair.anns, pair.bobs)):
        await _until_answered(socket, pair.channel, f"open{n}", "ack")


async def _until_answered(socket: RawSocket, channel: str, key: str, kind: str) -> None:
    for n in range(100):
        if (await socket.send(channel, f"{key}-{n}"))["type"] == kind:
            return
    raise AssertionError(f"never answered by {kind}")


def receipts_of(socket: RawSocket, person: Person) -> list[Any]:
    return [e for f in socket.of("receipt") for e in f["entries"] if e[0] == person.id]


async def seen_by(asker: Person, user_ids: list[str]) -> list[dict[str, Any]]:
    answer = await asker.ok("GET", f"/v1/presence?user_ids={','.join(user_ids)}")
    entries: list[dict[str, Any]] = answer["entries"]
    return entries
