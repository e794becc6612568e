"""A group keeps an owner, and nobody is removed by those they are no longer below, whatever happens in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Delete, Role, Send


async def roles(desk: Desk, channel: str) -> dict[str, str]:
    return {member.user_id: str(member.role) for member in await desk.store.members(channel)}


async def refused(call: Awaitable[Any]) -> Code:
    with pytest.raises(ChatError) as caught:
        await call
    return caught.value.code


def after_the_last_look(desk: Desk, looks: int, step: Callable[[], Awaitable[Any]]) -> None:
    """Do something once all of a change's own reads of grants are done and before it is appended."""

    async def nothing() -> None: ...

    async def now() -> None:
        desk.store.after = {}
        await step()

    desk.store.after = {"grant": [*[nothing] * (looks - 1), now]}


async def test_a_group_is_not_handed_to_somebody_who_leaves(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    after_the_last_look(desk, 2, lambda: other.channels.remove_member("bob", channel, "bob", ban=False))
    assert await refused(desk.channels.set_role("ann", channel, "bob", Role.OWNER)) is Code.USER_NOT_FOUND
    assert await roles(desk, channel) == {"ann": "owner"}


async def test_who_has_just_become_the_owner_does_not_leave(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob")
    after_the_last_look(desk, 1, lambda: other.channels.set_role("ann", channel, "bob", Role.OWNER))
    assert await refused(desk.channels.remove_member("bob", channel, "bob", ban=False)) is Code.CONFLICT
    assert await roles(desk, channel) == {"ann": "admin", "bob": "owner"}


@pytest.mark.parametrize("ban", [False, True])
async def test_an_admin_does_not_remove_who_has_just_become_one(desk: Desk, other: Desk, ban: bool) -> None:
    channel = await desk.group("ann", "bob", "eve")
    await desk.channels.set_role("ann", channel, "bob", Role.ADMIN)
    after_the_last_look(desk, 2, lambda: other.channels.set_role("ann", channel, "eve", Role.ADMIN))
    assert await refused(desk.channels.remove_member("bob", channel, "eve", ban)) is Code.FORBIDDEN
    assert await roles(desk, channel) == {"ann": "owner", "bob": "admin", "eve": "admin"}


async def test_who_is_no_admin_any_more_deletes_no_message_of_others(desk: Desk, other: Desk) -> None:
    channel = await desk.group("ann", "bob", "eve")
    await desk.channels.set_role("ann", channel, "bob", Role.ADMIN)
    sent = await desk.does("eve", Send("1", channel, "k1", "hello"))
    own = await desk.does("bob", Send("2", channel, "k2", "mine"))
    assert sent.message_id is not None and own.message_id is not None
    after_the_last_look(desk, 1, lambda: other.channels.set_role("ann", channel, "bob", Role.MEMBER))
    assert await refused(desk.does("bob", Delete("3", channel, "k3", sent.message_id))) is Code.FORBIDDEN
    item = await desk.store.message(channel, sent.message_id)
    assert item is not None and not item.deleted
    await desk.channels.set_role("ann", channel, "bob", Role.ADMIN)
    after_the_last_look(desk, 1, lambda: other.channels.set_role("ann", channel, "bob", Role.MEMBER))
    assert (await desk.does("bob", Delete("4", channel, "k4", own.message_id))).seq is not None
