"""The pure sync state: order, gaps, duplicates, joining and leaving, and what a heartbeat tells."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chatclient.sync import HELD_MAX, SyncState
from chatkernel.protocol import ChannelHead, Event, EventKind, Page, Pong, Position
from chatkernel.reading import seq_of

ROOM, OTHER, ME = "r_g1", "r_g2", "u_me"


def event(seq: int, channel: str = ROOM, kind: EventKind = EventKind.MESSAGE, **fields: object) -> Event:
    return Event(channel, seq, seq * 10, kind, "u_a", f"k{seq}", 1, **fields)  # type: ignore[arg-type]


def seqs(events: object) -> list[int]:
    return [e.seq for e in events]  # type: ignore[attr-defined]


def test_events_in_order_are_handed_on_at_once() -> None:
    state = SyncState(ME, {ROOM: 3})
    assert seqs(state.event(event(4))) == [4]
    assert seqs(state.event(event(5))) == [5]
    assert state.cursors == {ROOM: 5} and state.settled


def test_a_duplicate_is_dropped_and_told() -> None:
    refused: list[Event] = []
    state = SyncState(ME, {ROOM: 3}, refused.append)
    assert not state.event(event(3))
    assert seqs(refused) == [3]


def test_a_gap_is_held_asked_for_and_closed_by_the_page() -> None:
    state = SyncState(ME, {ROOM: 3})
    assert not state.event(event(6))
    assert state.wants and state.ask("s1", 100) == {ROOM: 3}
    assert not state.event(event(7))
    assert state.ask("s2", 100) == {}, "one request at a time for a channel"
    page = Page("s1", "sync", [event(4), event(5)], {ROOM: ChannelHead(5)})
    assert seqs(state.page(page)) == [4, 5, 6, 7]
    state.answered("s1")
    assert state.cursors == {ROOM: 7}


def test_a_gap_that_closes_by_itself_releases_what_was_held() -> None:
    state = SyncState(ME, {ROOM: 1})
    state.event(event(3))
    assert seqs(state.event(event(2))) == [2, 3]


def test_a_failed_request_is_wanted_again() -> None:
    state = SyncState(ME, {ROOM: 1})
    state.resync([ROOM])
    assert state.ask("s1", 10) == {ROOM: 1}
    state.failed("s1")
    assert state.ask("s2", 10) == {ROOM: 1}


def test_heads_of_unknown_channels_are_where_we_begin() -> None:
    state = SyncState(ME)
    state.greeting("h", 10)
    state.page(Page("h", "sync", heads={ROOM: ChannelHead(9)}))
    assert state.cursors == {ROOM: 9}


def test_the_head_of_a_channel_that_the_hello_had_no_room_for_is_asked_for() -> None:
    state = SyncState(ME, {ROOM: 1, OTHER: 2})
    assert state.greeting("h", 1) == {OTHER: 2}
    state.page(Page("h", "sync", heads={ROOM: ChannelHead(9), OTHER: ChannelHead(2)}))
    state.answered("h")
    assert state.cursors == {ROOM: 1, OTHER: 2}
    assert state.ask("s", 10) == {ROOM: 1}


def test_a_channel_joined_live_begins_with_the_joining() -> None:
    state = SyncState(ME)
    assert seqs(state.event(event(7, kind=EventKind.JOIN, users=[ME]))) == [7]
    assert seqs(state.event(event(8))) == [8]


def test_a_channel_whose_joining_was_lost_is_asked_for_from_the_beginning() -> None:
    state = SyncState(ME)
    assert not state.event(event(8))
    assert state.ask("s", 10) == {ROOM: 0}
    join = event(7, kind=EventKind.JOIN, users=[ME])
    assert seqs(state.page(Page("s", "sync", [join], {ROOM: ChannelHead(7)}))) == [7, 8]


def test_after_leaving_nothing_of_the_channel_is_handed_on() -> None:
    refused: list[Event] = []
    state = SyncState(ME, {ROOM: 3}, refused.append)
    assert seqs(state.event(event(4, kind=EventKind.LEAVE, users=[ME]))) == [4]
    assert state.cursors == {}
    assert not state.event(event(4))
    state.page(Page("old", "sync", [event(3)], {ROOM: ChannelHead(4)}))
    assert state.cursors == {}, "a head that was read before the leaving does not bring it back"
    assert seqs(refused) == [4, 3]


def test_what_a_page_says_is_left_is_left() -> None:
    state = SyncState(ME, {ROOM: 3})
    state.greeting("h", 10)
    state.page(Page("h", "sync", left=[ROOM]))
    assert state.cursors == {}


def test_joining_again_after_an_absence_skips_what_was_in_between() -> None:
    state = SyncState(ME, {ROOM: 3})
    state.greeting("h", 10)
    join = event(9, kind=EventKind.JOIN, users=[ME])
    assert seqs(state.page(Page("h", "sync", [join, event(10)], {ROOM: ChannelHead(10)}))) == [9, 10]
    assert (state.cursors, state.jumps) == ({ROOM: 10}, 0)


def test_a_heartbeat_that_agrees_asks_nothing_and_one_that_does_not_asks_for_all() -> None:
    state = SyncState(ME, {ROOM: 3, OTHER: 4})
    assert not state.pong(Pong("p", 0, 7, 2))
    assert state.pong(Pong("p", 0, 8, 2))
    assert state.ask("s", 10) == {ROOM: 3, OTHER: 4}
    assert not state.pong(Pong("p", 0, 8, 2)), "the answer is on its way"


def test_what_is_held_is_bounded() -> None:
    state = SyncState(ME, {ROOM: 0})
    for seq in range(2, HELD_MAX + 100):
        state.event(event(seq))
    assert len(state.event(event(1))) == HELD_MAX + 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(min_value=1, max_value=30), max_size=60),
    st.lists(st.integers(min_value=0, max_value=59), max_size=4),
)
def test_whatever_comes_in_whatever_order_is_handed_on_dense_and_rising(
    arrivals: list[int], asks: list[int]
) -> None:
    state, seen = SyncState(ME, {ROOM: 0}), []
    for index, seq in enumerate(arrivals):
        seen += seqs(state.event(event(seq)))
        if index in asks and (cursors := state.ask(f"s{index}", 10)):
            top = max(arrivals[: index + 1])
            events = [event(n) for n in range(seq_of(cursors[ROOM]) + 1, top + 1)]
            seen += seqs(state.page(Page(f"s{index}", "sync", events, {ROOM: ChannelHead(top)})))
            state.answered(f"s{index}")
    assert seen == list(range(1, len(seen) + 1))
    assert state.cursors[ROOM] == len(seen)


def test_a_cursor_says_which_event_it_stands_at_where_that_is_known() -> None:
    state = SyncState(ME, {ROOM: 3, OTHER: 1}, message_ids={ROOM: 30})
    assert state.greeting("h", 10) == {ROOM: Position(3, 30), OTHER: 1}
    state.event(event(4))
    state.event(event(6))  # held behind a gap: the cursor is not there yet
    state.page(Page("h", "sync", [], {OTHER: ChannelHead(5)}))
    assert state.greeting("i", 10) == {ROOM: Position(4, 40), OTHER: 5}
    state.event(event(5))
    state.page(Page("i", "sync", [], {OTHER: ChannelHead(7, 70)}))
    assert state.greeting("j", 10) == {ROOM: Position(6, 60), OTHER: Position(7, 70)}


def test_after_a_reset_a_channel_begins_at_the_head_that_follows() -> None:
    state = SyncState(ME, {ROOM: 9, OTHER: 4}, message_ids={ROOM: 90})
    state.greeting("h", 10)
    state.reset([ROOM])
    assert not state.page(Page("h", "sync", [], {ROOM: ChannelHead(5, 51), OTHER: ChannelHead(4)}))
    state.answered("h")
    assert state.cursors == {ROOM: 5, OTHER: 4} and state.settled
    assert seqs(state.event(event(6))) == [6]
