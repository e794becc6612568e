"""What a device keeps on disk: whole stretches of history, changes folded in, nothing of another person."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from chatclient.cache import Cache
from chatkernel.protocol import Event, EventKind, HistoryItem, Send

ROOM = "r_g1"


def event(seq: int, kind: EventKind = EventKind.MESSAGE, **fields: object) -> Event:
    return Event(ROOM, seq, seq * 10, kind, "u_a", f"k{seq}", seq, **fields)  # type: ignore[arg-type]


def items(*seqs: int) -> list[HistoryItem]:
    return [HistoryItem(event(seq, text=str(seq))) for seq in seqs]


def known(cache: Cache, before: int, limit: int = 100) -> tuple[list[int], int] | None:
    stretch = cache.before(ROOM, before, limit)
    return None if stretch is None else ([item.event.seq for item in stretch.items], stretch.low)


def test_stretches_that_touch_become_one_and_holes_stay_holes(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.put_page(ROOM, items(11, 12), 11, 12)
    cache.put_page(ROOM, items(21, 22), 21, 22)
    assert known(cache, 23) == ([21, 22], 21)
    cache.put_page(ROOM, items(13, 20), 13, 20)
    assert known(cache, 23) == ([11, 12, 13, 20, 21, 22], 11)
    assert known(cache, 11) is None
    cache.close()


def test_live_events_lengthen_the_stretch_and_a_jump_begins_another(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.put_page(ROOM, items(9, 10), 9, 10)
    cache.keep([event(11), event(12)], {ROOM: 12})
    assert known(cache, 13) == ([9, 10, 11, 12], 9)
    cache.keep([event(20)], {ROOM: 20})
    assert known(cache, 21) == ([20], 20)
    assert (cache.cursors(), cache.message_ids()) == ({ROOM: 20}, {ROOM: 200})
    cache.keep([], {ROOM: 25})  # by a head, whose message id is not known
    assert (cache.cursors(), cache.message_ids()) == ({ROOM: 25}, {})
    cache.close()


def test_the_file_of_an_earlier_version_is_taken(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.keep([event(20)], {ROOM: 20})
    cache.close()
    with closing(sqlite3.connect(tmp_path / "c.db")) as older:
        older.execute("ALTER TABLE cursors DROP COLUMN message_id")
    cache = Cache(tmp_path / "c.db", "u_me")
    assert (cache.cursors(), cache.message_ids()) == ({ROOM: 20}, {})
    cache.keep([event(21)], {ROOM: 21})
    assert cache.message_ids() == {ROOM: 210}
    cache.close()


def test_changes_are_folded_into_the_message(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.keep([event(1, text="helo"), event(2, text="bye")], {ROOM: 2})
    changes = [
        event(3, EventKind.EDIT, target_id=10, text="hello"),
        event(4, EventKind.REACTION, target_id=10, emoji="+1", on=True),
        event(5, EventKind.DELETE, target_id=20),
    ]
    for _ in range(2):  # twice is the same as once
        cache.keep(changes, {ROOM: 5})
    stretch = cache.before(ROOM, 6, 10)
    assert stretch is not None
    first, second = stretch.items
    assert (first.event.text, first.edited_at, first.reactions) == ("hello", 3, {"+1": ["u_a"]})
    assert (second.event.text, second.deleted) == (None, True)
    cache.close()


def test_a_channel_that_was_left_is_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.keep([event(1)], {ROOM: 1})
    cache.keep([], {}, [ROOM])
    assert cache.cursors() == {} and known(cache, 2) is None
    cache.close()


def test_another_person_finds_nothing_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    cache = Cache(path, "u_me")
    cache.keep([event(1)], {ROOM: 1})
    cache.put_command(Send("-", ROOM, "k", "secret"))
    cache.close()
    assert path.stat().st_mode & 0o777 == 0o600
    again = Cache(path, "u_me")
    assert [command.client_msg_id for command in again.outbox()] == ["k"]
    again.close()
    other = Cache(path, "u_other")
    assert other.cursors() == {} and other.outbox() == [] and known(other, 2) is None
    other.close()


def test_an_erasure_makes_all_of_the_persons_items_tombstones_and_takes_their_reactions_out(
    tmp_path: Path,
) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    mine = HistoryItem(
        Event(ROOM, 2, 20, EventKind.MESSAGE, "u_b", "k", 2, text="of b"),
        None,
        False,
        {"x": ["u_a", "u_b"], "y": ["u_a"]},
    )
    cache.put_page(ROOM, [*items(1), mine, *items(3)], 1, 3)
    cache.keep([event(4, EventKind.ERASE, users=["u_a"])], {ROOM: 4})
    stretch = cache.before(ROOM, 5, 10)
    assert stretch is not None and stretch.low == 1
    shown = [(item.event.text, item.deleted, item.reactions) for item in stretch.items]
    assert shown == [(None, True, None), ("of b", False, {"x": ["u_b"]}), (None, True, None)]
    cache.close()


def test_what_is_no_longer_there_to_see_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.db", "u_me")
    cache.put_page(ROOM, items(1, 2), 1, 3)
    cache.put_page(ROOM, items(6, 7, 8, 9), 6, 9)
    for _ in range(2):
        cache.drop_before({ROOM: 8, "other": 3})
        assert known(cache, 3) is None
        assert known(cache, 10) == ([8, 9], 8)
    cache.drop_before({ROOM: 10})
    assert known(cache, 10) is None
    cache.close()
