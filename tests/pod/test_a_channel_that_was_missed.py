"""A channel that a connected client was never told of is brought from where the person came in."""

from __future__ import annotations

from support.one_pod import Elsewhere, OnePod, Wire

from chatclient.sync import SyncState
from chatkernel.protocol import Event, Limits, Page, Resync
from chatkernel.reading import seq_of
from chatkernel.storage.open import Store

ROOM, OTHER = "local_g1", "local_g2"


def shown(state: SyncState, wire: Wire) -> list[tuple[str, int]]:
    """What the app of this client is handed of all that it was sent."""
    seen: list[Event] = []
    for frame in wire.frames:
        if isinstance(frame, Event):
            seen += state.event(frame)
        elif isinstance(frame, Page):
            seen += state.page(frame)
        elif isinstance(frame, Resync):
            state.resync(frame.channel_ids)
    wire.frames.clear()
    return [(event.channel_id, event.seq) for event in seen]


async def test_it_begins_with_the_event_that_created_it(pod: OnePod, elsewhere: Elsewhere) -> None:
    eve, wire = await pod.came("u_eve")
    elsewhere.holding = True
    await elsewhere.group(ROOM, "u_own", "u_eve")
    for text in ("a", "b", "c"):
        await elsewhere.say(ROOM, text)
    await pod.opener.reconcile(["u_eve"])
    elsewhere.holding = False
    await elsewhere.say(ROOM, "live")
    state = SyncState("u_eve")
    assert shown(state, wire) == [(ROOM, seq) for seq in (1, 2, 3, 4, 5)]
    assert eve.rooms == {ROOM} and state.settled


async def test_who_was_added_sees_nothing_from_before(pod: OnePod, elsewhere: Elsewhere) -> None:
    eve, wire = await pod.came("u_eve")
    elsewhere.holding = True
    await elsewhere.group(ROOM, "u_own")
    await elsewhere.say(ROOM, "before her")
    await elsewhere.join(ROOM, "u_eve")
    await elsewhere.say(ROOM, "hello eve")
    await pod.opener.reconcile(["u_eve"])
    assert wire.texts(ROOM) == ["hello eve"]
    assert shown(SyncState("u_eve"), wire) == [(ROOM, 3), (ROOM, 4)]
    assert eve.rooms == {ROOM}


async def test_what_the_client_had_is_dropped(pod: OnePod, elsewhere: Elsewhere) -> None:
    elsewhere.holding = True
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await elsewhere.say(ROOM, "had")
    eve, wire = await pod.came("u_eve", {ROOM: 2})
    state = SyncState("u_eve", {ROOM: 2})
    pod.hub.detach(eve, ROOM)
    await elsewhere.say(ROOM, "not had")
    await pod.opener.reconcile(["u_eve"])
    assert shown(state, wire) == [(ROOM, 3)]
    assert state.cursors == {ROOM: 3} and eve.rooms == {ROOM}


async def test_more_than_a_page_is_left_to_the_client(store: Store) -> None:
    pod = OnePod(store, Limits(page_max_items=3))
    elsewhere = Elsewhere(store, pod)
    eve, wire = await pod.came("u_eve")
    elsewhere.holding = True
    for channel_id in (ROOM, OTHER):
        await elsewhere.group(channel_id, "u_own", "u_eve")
        for number in range(7):
            await elsewhere.say(channel_id, f"m{number}")
    wire.frames.clear()
    await pod.opener.reconcile(["u_eve"])
    assert sum(len(page.events) for page in wire.pages) == 3
    elsewhere.holding = False
    for channel_id in (ROOM, OTHER):
        await elsewhere.say(channel_id, "live")
    state = SyncState("u_eve")
    [begun] = {channel_id for channel_id, _ in shown(state, wire)}
    other = next(c for c in (ROOM, OTHER) if c != begun)
    # Both are live, nothing is taken for had, and the client asks from where it really is.
    assert eve.rooms == {ROOM, OTHER} and state.cursors == {begun: 3}
    asked = {channel_id: seq_of(cursor) for channel_id, cursor in state.ask("s", 10).items()}
    assert asked == {begun: 3, other: 0}
    await pod.opener.reconcile(["u_eve"])
    assert wire.frames == []


async def test_how_many_are_in_it_is_put_right(pod: OnePod, elsewhere: Elsewhere) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await pod.came("u_eve")
    room = pod.hub.rooms[ROOM]
    room.member_count = 99
    await pod.opener.recount([ROOM, OTHER])
    assert room.member_count == 2
