"""Whoever is removed while something is read for them gets nothing from after it."""

from __future__ import annotations

import pytest
from support.desk import Desk

from chatkernel.errors import ChatError, Code
from chatkernel.messaging import Actor
from chatkernel.protocol import Event, History, Limits, Page, Send, Sync
from chatkernel.storage.store import Store

EVE = Actor("eve", "d")


async def says(desk: Desk, channel: str, *texts: str) -> None:
    for text in texts:
        await desk.does("ann", Send("1", channel, text, text))


async def read(desk: Desk, channel: str, cursor: int = 0) -> tuple[list[Event], Page]:
    pages = [page async for page in desk.messaging.reading.sync(EVE.user_id, Sync("1", {channel: cursor}))]
    return [event for page in pages for event in page.events], pages[-1]


def is_told(events: list[Event]) -> bool:
    return any("secret" in (event.text or "") for event in events)


@pytest.mark.parametrize("call", ["heads", "grants_of"])
async def test_sync_gives_nothing_from_after_a_removal(desk: Desk, call: str) -> None:
    channel = await desk.group("ann", "eve")
    await says(desk, channel, "hello")

    async def removed() -> None:
        await desk.channels.remove_member("ann", channel, "eve", ban=False)
        await says(desk, channel, "secret")

    desk.store.after = {call: [removed]}
    events, last = await read(desk, channel)
    assert not is_told(events) and last.left == [channel]


@pytest.mark.parametrize("call", ["heads", "grants_of"])
async def test_sync_gives_nothing_from_between_a_removal_and_being_added_again(desk: Desk, call: str) -> None:
    channel = await desk.group("ann", "eve")

    async def out_and_in() -> None:
        await desk.channels.remove_member("ann", channel, "eve", ban=False)
        await says(desk, channel, "secret")
        await desk.channels.add_members("ann", channel, ["eve"])

    desk.store.after = {call: [out_and_in]}
    events, last = await read(desk, channel)
    assert not is_told(events) and last.left == []


async def test_a_long_sync_stops_with_the_removal_and_says_so(store: Store) -> None:
    desk = Desk(store, Limits(page_max_items=2))
    channel = await desk.group("ann", "eve")
    await says(desk, channel, *"abcdef")
    got: list[Event] = []
    left: list[str] = []
    async for page in desk.messaging.reading.sync(EVE.user_id, Sync("1", {channel: 0})):
        if not got:
            await desk.channels.remove_member("ann", channel, "eve", ban=False)
        got.extend(page.events)
        left.extend(page.left)
    assert [event.seq for event in got] == [1, 2] and left == [channel]


async def test_who_is_added_again_during_a_long_sync_has_not_left(store: Store) -> None:
    desk = Desk(store, Limits(page_max_items=2))
    gone, kept = await desk.group("ann", "eve"), await desk.group("bob", "eve")
    for n in range(4):
        await desk.does("bob", Send("1", kept, f"k{n}", "hello"))
    await desk.channels.remove_member("ann", gone, "eve", ban=False)
    left: list[str] = []
    async for page in desk.messaging.reading.sync(EVE.user_id, Sync("1", {gone: 1, kept: 0})):
        if page.events and page.events[0].seq == 1:
            await desk.channels.add_members("ann", gone, ["eve"])
        left.extend(page.left)
    assert left == []


async def test_history_is_refused_after_a_removal_in_the_middle(desk: Desk) -> None:
    channel = await desk.group("ann", "eve")

    async def removed() -> None:
        await desk.channels.remove_member("ann", channel, "eve", ban=False)
        await says(desk, channel, "secret")

    desk.store.after = {"grant": [removed]}
    with pytest.raises(ChatError) as caught:
        await desk.messaging.reading.history(EVE.user_id, History("1", channel))
    assert caught.value.code is Code.CHANNEL_NOT_FOUND


async def test_history_gives_nothing_from_between_a_removal_and_being_added_again(desk: Desk) -> None:
    channel = await desk.group("ann", "eve")
    await says(desk, channel, "hello")

    async def out_and_in() -> None:
        desk.store.after = {}
        await desk.channels.remove_member("ann", channel, "eve", ban=False)
        await says(desk, channel, "secret")
        await desk.channels.add_members("ann", channel, ["eve"])

    desk.store.after = {"grant": [out_and_in]}
    page = await desk.messaging.reading.history(EVE.user_id, History("1", channel))
    assert [item.event.kind for item in page.items] == ["join"]
    assert not page.more_before
