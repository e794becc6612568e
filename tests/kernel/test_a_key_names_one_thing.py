"""A `client_msg_id` stands for one thing: another thing with it is refused, and never acked as if it were stored."""

from __future__ import annotations

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import ClientFrame, Delete, Edit, React, Send


async def refused(desk: Desk, user: str, frame: ClientFrame) -> tuple[Code, str | None]:
    with pytest.raises(ChatError) as caught:
        await desk.does(user, frame)
    return caught.value.code, caught.value.field


async def test_the_first_event_of_a_channel_takes_no_key_of_its_creator(desk: Desk, other: Desk) -> None:
    direct, _ = await desk.channels.open_direct("ann", "bob")
    group = await desk.group("ann", "bob")
    for channel in (direct.channel_id, group):
        sent = await other.does("ann", Send("1", channel, "open", "hello"))
        assert (sent.seq, sent.duplicate) == (2, False)


async def test_asked_twice_at_once_it_is_one_channel(desk: Desk, other: Desk) -> None:
    first = await desk.channels.create_group("ann", "Team", ["bob"], True, "mine")
    again = await other.channels.create_group("ann", "Team", ["bob"], True, "mine")
    assert first.channel_id == again.channel_id and again.head.seq == 1


async def test_another_kind_or_target_with_a_used_key_is_a_conflict(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    one = await desk.does("ann", Send("1", channel, "k1", "one"))
    two = await desk.does("ann", Send("2", channel, "k2", "two"))
    assert one.message_id is not None and two.message_id is not None
    await desk.does("ann", React("3", channel, "k3", one.message_id, "👋"))
    for pod in (desk, other):  # from memory, and from the store
        for frame in (
            React("4", channel, "k1", one.message_id, "👋"),
            Edit("4", channel, "k1", one.message_id, "one!"),
            Delete("4", channel, "k1", one.message_id),
            Send("4", channel, "k3", "three"),
            React("4", channel, "k3", two.message_id, "👋"),
        ):
            assert await refused(pod, "ann", frame) == (Code.CONFLICT, "client_msg_id")
    state = await desk.channels.state("ann", channel)
    assert state.head.seq == 4
    again = await other.does("ann", React("5", channel, "k3", one.message_id, "👋"))
    assert again.duplicate
    # The same key of somebody else is another key.
    assert not (await desk.does("bob", Send("6", channel, "k1", "mine"))).duplicate


async def test_a_refusal_is_not_answered_by_the_place_of_something_else(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    await desk.does("ann", Send("1", channel, "k1", "one"))
    wrong = React("2", channel, "k1", 7, "👋")
    assert await refused(other, "ann", wrong) == (Code.MESSAGE_NOT_FOUND, "message_id")
