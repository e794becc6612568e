"""Pages of history: bounds, what is visible, and the present state folded in."""

from __future__ import annotations

import pytest
from channel_log import START_MS, STEP_MS, ChannelLog

from chatkernel.errors import ChatError, Code
from chatkernel.message_ids import message_id_at
from chatkernel.protocol import EventKind
from chatkernel.storage.model import HistoryPage, PageQuery
from chatkernel.storage.open import Store


async def filled(store: Store, number: int = 10) -> ChannelLog:
    """CREATED at 1, messages at 2 …; then a reaction to the first, which no page lists."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say_many("u_ann", number)
    await log.append(EventKind.REACTION, "u_bob", target_id=said[0].message_id, emoji="x", on=True)
    return log


def shape(page: HistoryPage) -> tuple[list[int], bool, bool]:
    return [item.event.seq for item in page.items], page.more_before, page.more_after


ALL = list(range(1, 12))


@pytest.mark.parametrize(
    ("query", "seqs", "more_before", "more_after"),
    [
        ({}, ALL, False, False),
        ({"limit": 3}, [9, 10, 11], True, False),
        ({"limit": 11}, ALL, False, False),
        ({"limit": 3, "before": 9}, [6, 7, 8], True, True),
        ({"limit": 3, "before": 3}, [1, 2], False, True),
        ({"limit": 3, "before": 1}, [], False, True),
        ({"limit": 3, "before": 0}, [], False, True),
        ({"limit": 3, "before": 12}, [9, 10, 11], True, False),
        ({"limit": 3, "before": 10**9}, [9, 10, 11], True, False),
        ({"limit": 3, "after": 0}, [1, 2, 3], False, True),
        ({"limit": 3, "after": 9}, [10, 11], True, False),
        ({"limit": 3, "after": 11}, [], True, False),
        ({"limit": 3, "after": 10**9}, [], True, False),
        ({"limit": 3, "from_seq": 9}, [10, 11], False, False),
        ({"limit": 2, "from_seq": 8}, [10, 11], True, False),
        ({"limit": 3, "from_seq": 9, "before": 11}, [10], False, True),
        ({"limit": 3, "from_seq": 9, "before": 5}, [], False, True),
        ({"limit": 1, "from_seq": 9, "after": 2}, [10], False, True),
        ({"limit": 1, "from_seq": 12}, [], False, False),
    ],
)
async def test_bounds(
    store: Store, query: dict[str, int], seqs: list[int], more_before: bool, more_after: bool
) -> None:
    log = await filled(store)
    asked = {"from_seq": 0, "limit": 50, **query}
    page = await store.page(PageQuery(channel_id=log.channel_id, **asked))
    assert shape(page) == (seqs, more_before, more_after)


def id_of(seq: int) -> int:
    return message_id_at(START_MS + seq * STEP_MS)


@pytest.mark.parametrize(
    ("seq", "limit", "seqs", "more_before", "more_after"),
    [
        (6, 4, [4, 5, 6, 7], True, True),
        (1, 4, [1, 2, 3, 4], False, True),
        (2, 4, [1, 2, 3, 4], False, True),
        (11, 4, [8, 9, 10, 11], True, False),
        (6, 1, [6], True, True),
        (6, 50, ALL, False, False),
    ],
)
async def test_around_a_message(
    store: Store, seq: int, limit: int, seqs: list[int], more_before: bool, more_after: bool
) -> None:
    log = await filled(store)
    page = await store.page(PageQuery(log.channel_id, 0, limit, around=id_of(seq)))
    assert shape(page) == (seqs, more_before, more_after)


@pytest.mark.parametrize("seq", [4, 12, 99])
async def test_around_what_is_not_visible(store: Store, seq: int) -> None:
    """Before one's time, not a line of history, not there."""
    log = await filled(store)
    with pytest.raises(ChatError) as refused:
        await store.page(PageQuery(log.channel_id, 4, 4, around=id_of(seq)))
    assert refused.value.code is Code.MESSAGE_NOT_FOUND


@pytest.mark.parametrize(
    ("at", "seqs", "more_before", "more_after"),
    [
        (START_MS + 5 * STEP_MS, [5, 6, 7], True, True),
        (START_MS + 5 * STEP_MS - 1, [5, 6, 7], True, True),
        (START_MS + 5 * STEP_MS + 1, [6, 7, 8], True, True),
        (0, [1, 2, 3], False, True),
        (START_MS + 99 * STEP_MS, [9, 10, 11], True, False),
    ],
)
async def test_by_time(store: Store, at: int, seqs: list[int], more_before: bool, more_after: bool) -> None:
    log = await filled(store)
    page = await store.page(PageQuery(log.channel_id, 0, 3, at=at))
    assert shape(page) == (seqs, more_before, more_after)


async def test_by_time_before_ones_time(store: Store) -> None:
    log = await filled(store)
    page = await store.page(PageQuery(log.channel_id, 7, 2, at=0))
    assert shape(page) == ([8, 9], False, True)


async def test_edits_deletes_and_reactions_are_folded_in(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", "u_cem")
    one = await log.say("u_ann", "one")
    two = await log.say("u_bob", "two", metadata={"a": 1})
    edit = await log.append(EventKind.EDIT, "u_ann", target_id=one.message_id, text="one!")
    for user, emoji, on in [
        ("u_cem", "👍", True),
        ("u_ann", "👍", True),
        ("u_bob", "👀", True),
        ("u_cem", "👍", True),
        ("u_bob", "👀", False),
    ]:
        await log.append(EventKind.REACTION, user, target_id=one.message_id, emoji=emoji, on=on)
    await log.append(EventKind.DELETE, "u_bob", target_id=two.message_id)
    items = (await store.page(PageQuery(log.channel_id, 1, 10))).items
    assert [item.event.seq for item in items] == [2, 3]
    first, second = items
    assert (first.event.text, first.edited_at, first.deleted) == ("one!", edit.created_at, False)
    assert first.reactions == {"👍": ["u_cem", "u_ann"]}
    assert (second.event.text, second.event.metadata, second.deleted) == (None, None, True)
    assert await store.message(log.channel_id, one.message_id) == first
    assert await store.message(log.channel_id, edit.message_id) is None
    assert await store.message("local_gnone", one.message_id) is None


async def test_the_latest_edit_wins_and_a_deleted_message_stays_deleted(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "one")
    for text in ("two", "three"):
        await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text=text)
    found = await store.message(log.channel_id, said.message_id)
    assert found is not None
    assert found.event.text == "three"
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="four")
    found = await store.message(log.channel_id, said.message_id)
    assert found is not None
    assert (found.event.text, found.deleted, found.edited_at) == (None, True, None)
