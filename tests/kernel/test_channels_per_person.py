"""Nobody is put into more channels than one may be in, by whomever."""

from __future__ import annotations

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Limits
from chatkernel.storage.store import Store


async def test_a_full_person_is_not_put_into_another_group(store: Store) -> None:
    desk = Desk(store, Limits(channels_per_user_max=2))
    for _ in range(2):
        await desk.group("bob")
    channel = await desk.group("ann", "eve")
    with pytest.raises(ChatError) as caught:
        await desk.group("ann", "bob")
    assert (caught.value.code, caught.value.limit) == (Code.LIMIT_REACHED, 2)
    with pytest.raises(ChatError) as caught:
        await desk.channels.add_members("ann", channel, ["bob"])
    assert caught.value.code is Code.LIMIT_REACHED
    assert [member.user_id for member in await desk.store.members(channel)] == ["ann", "eve"]
