"""Nobody is in more channels than one may be in; and who is full is nobody else's to know."""

from __future__ import annotations

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Limits
from chatkernel.storage.store import Store


async def test_a_full_person_is_left_out_in_silence(store: Store) -> None:
    desk = Desk(store, Limits(channels_per_user_max=2))
    for _ in range(2):
        await desk.group("bob")
    channel = await desk.group("ann", "eve", "bob")
    assert await desk.channels.add_members("ann", channel, ["bob"]) == []
    assert [member.user_id for member in await desk.store.members(channel)] == ["ann", "eve"]


async def test_a_full_person_is_told_of_it(store: Store) -> None:
    desk = Desk(store, Limits(channels_per_user_max=2))
    for _ in range(2):
        await desk.group("bob")
    for making in (desk.channels.open_direct("bob", "ann"), desk.group("bob", "ann")):
        with pytest.raises(ChatError) as caught:
            await making
        error = caught.value
        assert (error.code, error.field, error.limit) == (Code.LIMIT_REACHED, "kind", 2)
