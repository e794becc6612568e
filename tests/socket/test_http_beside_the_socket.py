"""Everything a socket can send can be sent by HTTP, with the same idempotency."""

from __future__ import annotations

from typing import Any

from support.crew import Crew, read_log


async def test_by_socket_and_then_by_http_gives_the_first_ack(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    socket = await some.socket(ann)
    first = await socket.send(channel, "m1", "hello")
    target = first["message_id"]
    commands: list[tuple[str, dict[str, Any]]] = [
        ("send", {"client_msg_id": "m1", "text": "hello"}),
        ("edit", {"client_msg_id": "e1", "message_id": target, "text": "hello!"}),
        ("react", {"client_msg_id": "r1", "message_id": target, "emoji": "+1"}),
        ("delete", {"client_msg_id": "d1", "message_id": target}),
    ]
    for kind, fields in commands:
        by_socket = await socket.ask(kind, channel_id=channel, **fields)
        (by_http,) = (await ann.frame(kind, channel_id=channel, **fields))["frames"]
        assert by_socket["type"] == by_http["type"] == "ack", (kind, by_socket, by_http)
        places = [{k: a[k] for k in ("seq", "message_id", "created_at")} for a in (by_socket, by_http)]
        assert places[0] == places[1]
        assert by_http["duplicate"] is True
    log = await read_log(some.cluster, channel)
    assert [event.kind for event in log] == ["created", "message", "edit", "reaction", "delete"]


async def test_by_http_and_then_by_socket_gives_the_first_ack(some: Crew) -> None:
    (ann,) = await some.people("ann")
    channel = await some.group(ann)
    (by_http,) = (await ann.frame("send", channel_id=channel, client_msg_id="k", text="x"))["frames"]
    by_socket = await (await some.socket(ann)).send(channel, "k", "x")
    assert (by_socket["seq"], by_socket["duplicate"]) == (by_http["seq"], True)
    assert not by_http.get("duplicate")


async def test_what_is_sent_by_http_is_live_on_sockets(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    pods = await some.cluster.ready()
    sockets = [await some.socket(ann, pods[0]), await some.socket(bob, pods[1], msgpack=True)]
    for n in range(20):
        await ann.frame("send", channel_id=channel, client_msg_id=f"k{n}", text="x")
    for socket in sockets:
        await socket.event(channel, "k19", within_s=0.9)
        assert [event["seq"] for event in socket.events(channel)] == list(range(2, 22))
    await ann.frame("typing", channel_id=channel, on=True)
    await sockets[1].until(lambda f: f["type"] == "typing" and f["user_id"] == ann.id)
