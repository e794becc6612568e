"""A room delivers each seq once and in order, whatever comes, however often, and in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chatkernel.storage.model import Head
from chatpod.room import EARLY_MAX, Room

N = 30


class Told:
    """A room's deliveries: their seqs, with the payload of each."""

    def __init__(self, head: int | None) -> None:
        self.room = Room("g_1")
        if head is not None:
            self.room.open_at(Head(head, head, head, 1))
        self.seqs: list[int] = []
        self.payloads: list[bytes] = []

    def take(self, seq: int) -> bool:
        return self.room.take(seq, b"%d" % seq, False, self._deliver)

    def heal(self, upto: int) -> None:
        """What the healer does: everything after what was delivered, from the store."""
        for seq in range((self.room.last_seq or 0) + 1, upto + 1):
            self.take(seq)

    def _deliver(self, _room: Room, seq: int, frame: bytes, _membership: bool) -> None:
        self.seqs.append(seq)
        self.payloads.append(frame)


@settings(deadline=None)
@given(st.lists(st.integers(1, N), max_size=120), st.integers(0, N))
def test_any_order_any_loss_any_repetition_then_healed(takes: list[int], head: int) -> None:
    told = Told(head)
    known = head
    for seq in takes:
        known = max(known, seq)
        last = told.room.last_seq or 0
        complete = told.take(seq)
        assert told.seqs == list(range(head + 1, head + 1 + len(told.seqs)))
        assert told.room.behind == (known > (told.room.last_seq or 0))
        assert complete or told.room.behind
        if seq > last:  # what tells the room something new says whether it has to look
            assert complete is not told.room.behind
    told.heal(N)
    assert told.seqs == list(range(head + 1, N + 1))
    assert told.payloads == [b"%d" % seq for seq in told.seqs]
    assert not told.room.behind and not told.room.holds_early


@settings(deadline=None)
@given(st.permutations(range(1, N + 1)))
def test_all_of_them_in_any_order_need_no_healing(order: list[int]) -> None:
    told = Told(0)
    for seq in order:
        told.take(seq)
    assert told.seqs == list(range(1, N + 1))
    assert not told.room.behind and not told.room.holds_early


@settings(deadline=None)
@given(st.lists(st.integers(1, N), max_size=40), st.integers(0, N), st.integers(0, N))
def test_what_comes_before_the_head_is_known_is_not_forgotten(
    early: list[int], head: int, older: int
) -> None:
    """The room asks for it once it knows where it stands."""
    told = Told(None)
    for seq in early:
        assert told.take(seq)
    assert told.seqs == []
    told.room.open_at(Head(head, head, head, 1))
    assert told.room.behind == (max([0, *early]) > head)
    told.room.open_at(Head(min(head, older), 1, 1, 1))  # a look that began earlier and ends later
    assert told.room.last_seq == head
    told.heal(N)
    assert told.seqs == list(range(head + 1, N + 1))


def test_what_is_held_out_of_order_is_bounded() -> None:
    told = Told(0)
    last = EARLY_MAX + 200
    for seq in range(last, 1, -1):
        assert not told.take(seq)
    assert told.seqs == [] and len(told.room._early or ()) <= EARLY_MAX
    told.heal(last)
    assert told.seqs == list(range(1, last + 1))
