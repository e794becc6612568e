"""Through sockets: replies, what people added later see, and who may not write or change."""

from __future__ import annotations

from typing import Any

import pytest
from support.crew import Crew, read_log
from support.rawsocket import Frame, RawSocket


def refused(answer: Frame, code: str) -> bool:
    return (answer["type"], answer.get("code"), answer.get("retryable")) == ("error", code, False)


async def page_seqs(socket: RawSocket, kind: str, **fields: Any) -> list[int]:
    """Seqs of what is in the pages that answer a `sync` or `history`."""
    ack = await socket.ask(kind, **fields)
    assert ack["type"] == "ack", ack
    pages = socket.of("page", id=ack["id"])
    events = [event for page in pages for event in page.get("events", [])]
    return [event["seq"] for event in events + [i["event"] for page in pages for i in page.get("items", [])]]


async def test_a_reply_names_the_message_that_it_answers(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    asker, answerer = await some.socket(ann, one), await some.socket(bob, other)
    question = await asker.send(channel, "question")
    answer = await answerer.send(channel, "answer", reply_to=question["message_id"])
    assert answer["type"] == "ack", answer
    for socket in (asker, answerer):
        assert (await socket.event(channel, "answer"))["reply_to"] == question["message_id"]
    nothing = await answerer.send(channel, "to nothing", reply_to=answer["message_id"] + 1)
    assert refused(nothing, "message_not_found") and nothing["field"] == "reply_to"


@pytest.mark.parametrize(("from_start", "first_seen"), [(True, 1), (False, 3)])
async def test_who_is_added_later_sees_what_the_group_allows(
    some: Crew, from_start: bool, first_seen: int
) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, history_from_start=from_start)
    one, other = await some.cluster.ready()
    speaker, newcomer = await some.socket(ann, one), await some.socket(bob, other)
    await speaker.send(channel, "early")  # seq 2; the join is 3
    await ann.ok("POST", f"/v1/channels/{channel}/members", {"user_ids": [bob.id]})
    await speaker.send(channel, "late")
    await newcomer.event(channel, "late")
    # Live, the channel begins with the join in either case; what is before it is asked for.
    assert [(event["seq"], event["kind"]) for event in newcomer.events(channel)] == [
        (3, "join"),
        (4, "message"),
    ]
    expected = list(range(first_seen, 5))
    assert await page_seqs(newcomer, "sync", cursors={channel: 0}) == expected
    assert await page_seqs(newcomer, "history", channel_id=channel) == expected
    back = await some.socket(bob, one, cursors={channel: 0})
    assert [event["seq"] for event in back.events(channel)] == expected


async def test_who_is_banned_sends_no_more(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    one, other = await some.cluster.ready()
    witness, sender = await some.socket(ann, one), await some.socket(bob, other)
    mine = await sender.send(channel, "before")
    await ann.ok("DELETE", f"/v1/channels/{channel}/members/{bob.id}?ban=true")
    await sender.until(lambda f: f["type"] == "event" and f.get("kind") == "ban" and f["users"] == [bob.id])
    change = {"channel_id": channel, "message_id": mine["message_id"]}
    answers = [
        await sender.send(channel, "after"),
        await sender.ask("edit", client_msg_id="e", text="x", **change),
        await sender.ask("delete", client_msg_id="d", **change),
        await sender.ask("react", client_msg_id="r", emoji="+1", **change),
    ]
    assert all(refused(answer, "banned") for answer in answers), answers
    await witness.send(channel, "last")
    await witness.event(channel, "last")
    assert [event["kind"] for event in witness.events(channel)] == ["created", "message", "ban", "message"][
        -3:
    ]


async def test_only_who_may_changes_a_message(some: Crew) -> None:
    ann, bob, eve, stranger = await some.people("ann", "bob", "eve", "stranger")
    channel = await some.group(ann, bob, eve)
    owner, author, member, outsider = [await some.socket(p) for p in (ann, bob, eve, stranger)]
    message = await author.send(channel, "mine")

    async def change(socket: RawSocket, kind: str, **fields: Any) -> Frame:
        target = {"channel_id": channel, "message_id": message["message_id"]}
        return await socket.ask(kind, client_msg_id="change", **target, **fields)

    assert refused(await change(outsider, "edit", text="x"), "channel_not_found")
    assert refused(await change(outsider, "delete"), "channel_not_found")
    assert refused(await change(outsider, "react", emoji="+1"), "channel_not_found")
    assert refused(await change(member, "edit", text="x"), "forbidden")
    assert refused(await change(member, "delete"), "forbidden")
    assert refused(await change(owner, "edit", text="x"), "forbidden")
    assert (await change(owner, "delete"))["type"] == "ack"
    assert refused(await change(member, "react", emoji="+1"), "conflict")
    assert refused(await change(author, "edit", text="x"), "conflict")
    kinds = [event.kind for event in await read_log(some.cluster, channel)]
    assert kinds == ["created", "message", "delete"]
