"""Who comes or goes while a client is brought up to date: nobody sees what is not theirs, nobody misses what is."""

from __future__ import annotations

import pytest
from support.one_pod import Elsewhere, OnePod

from chatclient.sync import SyncState
from chatkernel.protocol import Event, EventKind, Limits, Page
from chatkernel.storage.open import Store

ROOM, OTHER = "local_g1", "local_g2"


def between_pages(pod: OnePod, *steps: object) -> None:
    """Run the steps once, after the first page of a catch-up."""
    pace, left = pod.opener.pace, list(steps)

    async def paced(client: object) -> None:
        while left:
            await left.pop(0)()  # type: ignore[operator]
        await pace(client)  # type: ignore[arg-type]

    pod.opener.pace = paced  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize("cursors", [{}, {ROOM: 1}, {ROOM: 9}])
async def test_a_member_removed_while_the_grant_is_read_again_is_not_let_in(
    pod: OnePod, elsewhere: Elsewhere, cursors: dict[str, int]
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await pod.came("u_own")
    # Eve's grants are read, then somebody joins: her grant is read again, and then she is removed.
    pod.store.after("grants_of", lambda: elsewhere.join(ROOM, "u_zed"))
    pod.store.after("grant", lambda: elsewhere.leave(ROOM, "u_eve"))
    eve, wire = await pod.came("u_eve", cursors)
    await elsewhere.say(ROOM, "she is gone")
    assert eve not in pod.hub.rooms[ROOM].clients and not eve.rooms
    assert wire.texts(ROOM) == [] and wire.left == [ROOM]


async def test_who_was_out_during_a_catch_up_does_not_see_what_was_then(store: Store) -> None:
    pod = OnePod(store, Limits(page_max_items=3))
    elsewhere = Elsewhere(store, pod)
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await pod.came("u_own")
    for number in range(4):
        await elsewhere.say(ROOM, f"m{number}")
    between_pages(
        pod,
        lambda: elsewhere.leave(ROOM, "u_eve"),
        lambda: elsewhere.say(ROOM, "while she was out"),
        lambda: elsewhere.join(ROOM, "u_eve"),
    )
    eve, wire = await pod.came("u_eve", {ROOM: 1})
    await elsewhere.say(ROOM, "she is back")
    assert wire.texts(ROOM) == ["m0", "m1", "m2", "she is back"]
    assert eve.rooms == {ROOM} and wire.left == []


async def test_nor_when_it_was_while_another_channel_was_looked_at(store: Store) -> None:
    """Both grants are read again; between the two, the person leaves the first channel and is added again."""
    pod = OnePod(store, Limits(page_max_items=3))
    elsewhere = Elsewhere(store, pod)
    for channel_id in (ROOM, OTHER):
        await elsewhere.group(channel_id, "u_own", "u_eve")
    await pod.came("u_own")
    for channel_id in (ROOM, OTHER):
        for number in range(4):
            await elsewhere.say(channel_id, f"m{number}")

    async def out_and_in() -> None:
        await elsewhere.leave(ROOM, "u_eve")
        await elsewhere.say(ROOM, "while she was out")
        await elsewhere.join(ROOM, "u_eve")

    async def look_again() -> None:
        await elsewhere.join(OTHER, "u_zed")
        pod.store.after("grant", out_and_in)

    between_pages(pod, look_again)
    eve, wire = await pod.came("u_eve", {ROOM: 1, OTHER: 1})
    assert wire.texts(ROOM) == ["m0", "m1", "m2"]
    assert wire.texts(OTHER) == ["m0", "m1", "m2", "m3"] and eve.rooms == {ROOM, OTHER}


async def test_a_grant_that_is_ahead_of_the_room_shows_nothing_from_before_it(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    """The store knows of the joining already; the bus brings what was before it only now."""
    await elsewhere.group(ROOM, "u_own")
    await pod.came("u_own")
    elsewhere.holding = True
    await elsewhere.say(ROOM, "before she came")
    await elsewhere.join(ROOM, "u_eve")
    eve, wire = await pod.came("u_eve")
    elsewhere.deliver()
    elsewhere.holding = False
    await elsewhere.say(ROOM, "she is here")
    assert wire.texts(ROOM) == ["she is here"]
    assert eve in pod.hub.rooms[ROOM].clients


async def test_a_grant_of_one_who_is_back_that_is_ahead_of_the_room_does_not_either(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await pod.came("u_own")
    await elsewhere.say(ROOM, "m0")
    elsewhere.holding = True
    await elsewhere.leave(ROOM, "u_eve")
    await elsewhere.say(ROOM, "while she was out")
    await elsewhere.join(ROOM, "u_eve")
    elsewhere.deliver(0)
    # What is missing here may come at the worst moment: while her page is read.
    pod.store.before("events", lambda: _now(lambda: elsewhere.deliver(1, 2)))
    eve, wire = await pod.came("u_eve", {ROOM: 1})
    elsewhere.deliver(1, 2)
    assert wire.texts(ROOM) in ([], ["m0"])
    assert eve in pod.hub.rooms[ROOM].clients and wire.left == []
    assert pod.looked_at == [ROOM]


async def _now(step: object) -> None:
    step()  # type: ignore[operator]


async def test_leaving_and_joining_that_came_in_the_wrong_order_end_in_the_room(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    eve, wire = await pod.came("u_eve", {ROOM: 1})
    elsewhere.holding = True
    await elsewhere.leave(ROOM, "u_eve")
    await elsewhere.join(ROOM, "u_eve")
    elsewhere.deliver(1, 0)
    elsewhere.holding = False
    await elsewhere.say(ROOM, "hello eve")
    assert eve in pod.hub.rooms[ROOM].clients and eve.rooms == {ROOM}
    assert [event.seq for event in wire.events(ROOM)] == [2, 3, 4]


async def test_a_channel_that_came_live_again_is_not_said_to_be_left(store: Store) -> None:
    pod = OnePod(store, Limits(page_max_items=2))
    elsewhere = Elsewhere(store, pod)
    for channel_id in (ROOM, OTHER):
        await elsewhere.group(channel_id, "u_own", "u_eve")
    await pod.came("u_own")
    for number in range(5):
        await elsewhere.say(OTHER, f"m{number}")
    await elsewhere.leave(ROOM, "u_eve")
    between_pages(pod, lambda: elsewhere.join(ROOM, "u_eve"))
    state = SyncState("u_eve", {ROOM: 1, OTHER: 1})
    eve, wire = await pod.came("u_eve", state.greeting("h", 100))
    for frame in wire.frames:
        if isinstance(frame, Event):
            state.event(frame)
        elif isinstance(frame, Page):
            state.page(frame)
    assert wire.left == [] and eve.rooms == {ROOM, OTHER}
    # The client looks for what it may have missed, and does not take itself for out.
    assert ROOM in state.cursors
    assert [e.kind for e in wire.events(ROOM)] == [EventKind.JOIN]
