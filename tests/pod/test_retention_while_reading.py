"""Retention may remove what a pod, or a client that catches up, was about to read: nobody misses what is left, and
nobody asks for ever for what is gone."""

from __future__ import annotations

from support.one_pod import Elsewhere, OnePod, Wire

from chatclient.sync import SyncState
from chatkernel.ids import now_ms
from chatkernel.message_ids import message_id_at
from chatkernel.protocol import Event, Limits, Page
from chatkernel.reading import seq_of
from chatkernel.storage.open import Store

ROOM = "local_g1"


async def expire(store: Store, upto: int) -> None:
    """Everything up to this seq."""
    done = await store.expire(ROOM, message_id_at(now_ms() + 60_000), upto)
    assert done.floor_seq == upto


def shown(state: SyncState, wire: Wire) -> list[int]:
    seen: list[Event] = []
    for frame in wire.frames:
        if isinstance(frame, Event):
            seen += state.event(frame)
        elif isinstance(frame, Page):
            seen += state.page(frame)
    wire.frames.clear()
    return [event.seq for event in seen]


async def test_a_pod_that_missed_what_is_gone_by_now_goes_on_at_what_is_there(
    store: Store, pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    _, wire = await pod.came("u_eve", {ROOM: 1})
    state = SyncState("u_eve", {ROOM: 1})
    shown(state, wire)
    elsewhere.holding = True
    for number in range(7):
        await elsewhere.say(ROOM, f"lost {number}")
    await expire(store, 6)
    elsewhere.holding = False
    await elsewhere.say(ROOM, "live")
    await pod.heal()
    assert not pod.hub.rooms[ROOM].behind
    # The client sees the jump, asks from its cursor, and is told where it goes on.
    assert shown(state, wire) == []
    asked = {channel_id: seq_of(cursor) for channel_id, cursor in state.ask("s", 10).items()}
    assert asked == {ROOM: 1}
    again, wire = await pod.came("u_eve", asked)
    [head] = [page.heads[ROOM] for page in wire.pages if ROOM in page.heads]
    assert (head.seq, head.first_seq) == (9, 7)
    assert shown(state, wire) == [7, 8, 9]
    state.answered("s")
    assert state.settled and state.cursors == {ROOM: 9} and again.rooms == {ROOM}


async def test_what_is_removed_between_two_pages_is_a_jump_and_the_rest_comes(store: Store) -> None:
    pod = OnePod(store, Limits(page_max_items=2))
    elsewhere = Elsewhere(store, pod)
    await elsewhere.group(ROOM, "u_own", "u_eve")
    for number in range(11):
        await elsewhere.say(ROOM, f"m{number}")
    pod.store.before("events", lambda: expire(store, 9))
    _, wire = await pod.came("u_eve", {ROOM: 1})
    state = SyncState("u_eve", {ROOM: 1})
    assert shown(state, wire) == [10, 11, 12]
    assert state.settled and state.cursors == {ROOM: 12}


async def test_a_channel_of_which_all_is_removed_meanwhile_is_complete_at_its_head(
    store: Store, pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    for number in range(4):
        await elsewhere.say(ROOM, f"m{number}")
    pod.store.before("events", lambda: expire(store, 5))
    client, wire = await pod.came("u_eve", {ROOM: 1})
    state = SyncState("u_eve", {ROOM: 1})
    state.greeting("h", 10)
    assert shown(state, wire) == []
    state.answered("h")
    assert state.settled and state.cursors == {ROOM: 5} and client.rooms == {ROOM}
    await elsewhere.say(ROOM, "live")
    assert shown(state, wire) == [6]
