"""A resend gets the answer of the first time, whatever has become of sender, message or limits since."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.desk import Desk, pair

from chatkernel.errors import ChatError, Code
from chatkernel.messaging import Actor, ack_of
from chatkernel.protocol import Ack, Delete, Edit, EventKind, Limits, React, Send
from chatkernel.storage.model import FriendAction


def first_again(again: Ack, first: Ack) -> bool:
    places = [(ack.seq, ack.message_id, ack.created_at) for ack in (again, first)]
    return places[0] == places[1] and again.duplicate


async def test_after_the_message_was_deleted(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    sent = await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert sent.message_id is not None
    edit = Edit("2", channel, "k2", sent.message_id, "hello!")
    edited = await desk.does("bob", edit)
    await desk.does("ann", Delete("3", channel, "k3", sent.message_id))
    for pod in (desk, other):
        assert first_again(await pod.does("bob", edit), edited)
    with pytest.raises(ChatError) as caught:
        await other.does("bob", Edit("2", channel, "another", sent.message_id, "hello?"))
    assert caught.value.code is Code.CONFLICT


async def test_after_the_sender_was_removed(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    frame = Send("1", channel, "k1", "hello")
    first = await desk.does("bob", frame)
    await desk.channels.remove_member("ann", channel, "bob", ban=True)
    assert first_again(await other.does("bob", frame), first)
    assert first.seq in [event.seq for event in other.told]  # whoever stored it may have died before telling
    with pytest.raises(ChatError) as caught:
        await other.does("bob", Send("1", channel, "k2", "hello"))
    assert caught.value.code is Code.BANNED


async def test_on_the_quick_path_with_an_older_grant(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    frame = Send("1", channel, "k1", "hello")
    first = await desk.does("bob", frame)
    await desk.channels.remove_member("ann", channel, "bob", ban=False)
    answers: asyncio.Queue[Any] = asyncio.Queue()
    for key in ("k1", "k2"):
        other.messaging.submit(
            Actor("bob", "d"),
            Send("1", channel, key, "hello"),
            1,
            lambda placed, error, duplicate: answers.put_nowait((placed, error, duplicate)),
        )
    found = [await answers.get(), await answers.get()]
    again = next(placed for placed, _, _ in found if placed is not None)
    assert first_again(ack_of("1", channel, again, True), first)
    [refusal] = [error for _, error, _ in found if error is not None]
    assert refusal.code is Code.CHANNEL_NOT_FOUND


async def test_twins_of_which_one_has_an_older_grant_have_one_outcome(desk: Desk, other: Desk) -> None:
    """One of them may be refused while the other is let through: the refusal must not answer both."""
    channel = await desk.group("ann", "bob")
    calls = [
        other.appender.append(
            channel_id=channel,
            sender_id="stranger",
            client_msg_id="same",
            kind=EventKind.MESSAGE,
            members_seq=members_seq,
            text="hello",
        )
        for members_seq in (1, 0)
    ]
    allowed, refused = await asyncio.gather(*calls, return_exceptions=True)
    assert not isinstance(allowed, BaseException) and isinstance(refused, ChatError)


async def test_after_one_has_blocked_the_other(desk: Desk, other: Desk) -> None:
    await desk.channels.open_direct("ann", "bob")
    frame = Send("1", pair("ann", "bob"), "k1", "hello")
    first = await desk.does("bob", frame)
    await desk.store.friend_action("ann", "bob", FriendAction.BLOCK, 2)
    assert first_again(await other.does("bob", frame), first)
    # The pair is known to be blocked by now: a socket's quick path leaves it to the slow one.
    assert not other.messaging.quick(frame)
    with pytest.raises(ChatError) as caught:
        await other.does("bob", Send("1", frame.channel_id, "k2", "hello"))
    assert caught.value.code is Code.BLOCKED


async def test_after_others_have_used_up_the_reactions(store: Any) -> None:
    desk, other = (Desk(store, Limits(reactions_per_message_max=1)) for _ in range(2))
    channel = await desk.group("ann", "bob")
    sent = await desk.does("bob", Send("1", channel, "k1", "hello"))
    assert sent.message_id is not None
    frame = React("2", channel, "k2", sent.message_id, "+")
    first = await desk.does("bob", frame)
    await desk.does("bob", React("3", channel, "k3", sent.message_id, "+", on=False))
    await desk.does("ann", React("4", channel, "k4", sent.message_id, "-"))
    assert first_again(await other.does("bob", frame), first)
