"""A store that gives a grant from before the last removal, though the log has that removal: nobody is let through."""

from __future__ import annotations

import asyncio

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind, Send
from chatkernel.storage.model import Absence, EventRange, Grant


async def test_who_was_removed_waits_for_the_store_and_holds_up_no_other_channel(
    desk: Desk, other: Desk
) -> None:
    channel, elsewhere = await desk.group("ann", "bob"), await desk.group("ann", "bob")
    before = await desk.store.grant(channel, "bob")
    await other.channels.remove_member("ann", channel, "bob", ban=True)
    asked = 0
    behind = True
    real = desk.store.store.grant

    async def grant(channel_id: str, user_id: str) -> Grant | Absence:
        nonlocal asked
        if behind and channel_id == channel:
            asked += 1
            return before
        return await real(channel_id, user_id)

    desk.store.grant = grant
    sending = asyncio.create_task(desk.does("bob", Send("1", channel, "k1", "let me in")))
    async with asyncio.timeout(20):
        while asked < 4:
            await asyncio.sleep(0.001)
    await desk.does("bob", Send("2", elsewhere, "k2", "here I am"))
    assert not sending.done()
    behind = False
    with pytest.raises(ChatError) as refused:
        await sending
    assert refused.value.code is Code.BANNED
    [events] = await desk.store.events([EventRange(channel, 0, 100)])
    assert EventKind.MESSAGE not in [event.kind for event in events]
