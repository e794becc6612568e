"""What retention removes, and that the rest of a channel goes on as if it had never been there."""

from __future__ import annotations

import pytest
from channel_log import START_MS, STEP_MS, ChannelLog

from chatkernel.errors import ChatError, Code
from chatkernel.message_ids import message_id_at
from chatkernel.protocol import EventKind, Role
from chatkernel.storage.model import EventRange, Grant, Keeping, PageQuery, Watermark
from chatkernel.storage.open import Store

ALL = 1000


def before(seq: int) -> int:
    """Older than the event at this seq."""
    return message_id_at(START_MS + seq * STEP_MS)


async def filled(store: Store, messages: int = 10) -> ChannelLog:
    """CREATED at 1, messages from 2 on."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    await log.say_many("u_ann", messages)
    return log


async def seqs(store: Store, log: ChannelLog, after: int = 0, limit: int = ALL) -> list[int]:
    [found] = await store.events([EventRange(log.channel_id, after, limit)])
    return [event.seq for event in found]


async def test_what_is_older_goes_and_the_rest_stays_dense(store: Store) -> None:
    log = await filled(store)
    done = await store.expire(log.channel_id, before(6), ALL)
    assert (done.floor_seq, done.removed, done.more) == (5, 5, False)
    assert await seqs(store, log) == [6, 7, 8, 9, 10, 11]
    assert (await store.heads([log.channel_id]))[log.channel_id].seq == 11
    grant = await store.grant(log.channel_id, "u_bob")
    assert isinstance(grant, Grant) and grant.from_seq == 5
    assert [each.from_seq for each in (await store.grants_of(["u_bob"]))["u_bob"]] == [5]
    state = await store.channel(log.channel_id)
    assert state is not None and (state.first_seq, state.head.seq) == (6, 11)
    await log.say("u_bob", "on it goes")
    assert await seqs(store, log, 9) == [10, 11, 12]


async def test_it_goes_in_bounded_batches_and_again_is_no_more(store: Store) -> None:
    log = await filled(store)
    floors = []
    for _ in range(4):
        done = await store.expire(log.channel_id, before(8), 3)
        floors.append((done.floor_seq, done.removed, done.more))
    assert floors == [(3, 3, True), (6, 3, True), (7, 1, False), (7, 0, False)]
    assert await seqs(store, log) == [8, 9, 10, 11]


async def test_a_range_from_every_old_cursor_ends_at_the_head_without_a_hole_above_the_floor(
    store: Store,
) -> None:
    log = await filled(store)
    await store.expire(log.channel_id, before(8), ALL)
    for cursor in range(13):
        got: list[int] = []
        while page := await seqs(store, log, max([cursor, *got]), 2):
            got += page
        assert got == [seq for seq in range(8, 12) if seq > cursor]


async def test_a_channel_of_which_everything_is_old_keeps_its_head_without_a_text(store: Store) -> None:
    log = await filled(store)
    await store.expire(log.channel_id, before(99), ALL)
    head = (await store.heads([log.channel_id]))[log.channel_id]
    assert (head.seq, head.messages, head.members_seq) == (11, 10, 1)
    grant = await store.grant(log.channel_id, "u_bob")
    assert isinstance(grant, Grant) and grant.from_seq == 11
    [left] = (await store.events([EventRange(log.channel_id, 0, ALL)]))[0] or [None]
    assert left is None or left.text is None
    assert (await store.page(PageQuery(log.channel_id, 11, 50))).items == []
    page = await store.conversations("u_bob", cursor=None, limit=10, archived=False)
    assert [(line.seq, line.unread, line.last_message) for line in page.conversations] == [(11, 0, None)]
    said = await log.say("u_ann", "after a long silence")
    assert said.seq == 12 and await seqs(store, log, 11) == [12]
    assert await store.unread("u_bob", [log.channel_id]) == {log.channel_id: 1}
    assert (await store.expire(log.channel_id, before(99), ALL)).floor_seq == 12
    assert await seqs(store, log, 12) == []


PAGES: list[tuple[dict[str, int], list[int]]] = [
    ({}, [8, 9, 10, 11]),
    ({"before": 10}, [8, 9]),
    ({"before": 8}, []),
    ({"before": 3}, []),
    ({"after": 3, "limit": 2}, [8, 9]),
    ({"after": 7, "limit": 2}, [8, 9]),
    ({"after": 10}, [11]),
    ({"at": START_MS}, [8, 9, 10, 11]),
    ({"around": before(9), "limit": 2}, [8, 9]),
]


async def test_pages_show_what_is_left(store: Store) -> None:
    log = await filled(store)
    await store.expire(log.channel_id, before(8), ALL)
    for query, wanted in PAGES:
        page = await store.page(PageQuery(log.channel_id, **{"from_seq": 7, "limit": 50, **query}))
        assert [item.event.seq for item in page.items] == wanted, query
        assert not page.more_before or wanted[0] > 8


async def test_a_jump_to_what_is_gone_finds_no_message(store: Store) -> None:
    log = await filled(store)
    await store.expire(log.channel_id, before(8), ALL)
    with pytest.raises(ChatError) as caught:
        await store.page(PageQuery(log.channel_id, 7, 50, around=before(5)))
    assert caught.value.code is Code.MESSAGE_NOT_FOUND
    assert await store.message(log.channel_id, before(5)) is None


async def test_what_hangs_on_a_removed_message_goes_too(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    old = await log.say("u_ann", "first words")
    kept = await log.say("u_bob", "answer", reply_to=old.message_id)
    await log.append(EventKind.EDIT, "u_ann", target_id=old.message_id, text="second words")
    await log.append(EventKind.REACTION, "u_bob", target_id=old.message_id, emoji="x", on=True)
    await log.append(EventKind.REACTION, "u_ann", target_id=kept.message_id, emoji="y", on=True)
    await store.expire(log.channel_id, before(kept.seq), ALL)
    [left] = await store.events([EventRange(log.channel_id, 0, ALL)])
    assert [(event.seq, event.kind, event.text) for event in left] == [
        (3, EventKind.MESSAGE, "answer"),
        (4, EventKind.EDIT, None),
        (5, EventKind.REACTION, None),
        (6, EventKind.REACTION, None),
    ]
    [item] = (await store.page(PageQuery(log.channel_id, 2, 50))).items
    assert (item.event.reply_to, item.reactions) == (old.message_id, {"y": ["u_ann"]})
    # A change of what is gone changes nothing.
    await log.append(EventKind.EDIT, "u_ann", target_id=old.message_id, text="third")
    await log.append(EventKind.DELETE, "u_ann", target_id=old.message_id)
    assert await store.message(log.channel_id, old.message_id) is None


async def test_what_is_gone_is_not_unread_and_old_marks_stay_sane(store: Store) -> None:
    log = await filled(store)
    channel = log.channel_id
    await store.put_watermarks([Watermark(channel, "u_bob", read_seq=3)])
    assert await store.unread("u_bob", [channel]) == {channel: 8}
    await store.expire(channel, before(8), ALL)
    assert await store.unread("u_bob", [channel]) == {channel: 4}
    for read_seq, unread in ((4, 4), (7, 4), (9, 2), (11, 0)):
        [state] = await store.put_watermarks([Watermark(channel, "u_bob", read_seq=read_seq)])
        assert state is not None and (state.read_seq, state.unread) == (read_seq, unread)
        assert await store.unread("u_bob", [channel]) == {channel: unread}
    await store.expire(channel, before(99), ALL)
    [state] = await store.put_watermarks([Watermark(channel, "u_bob", read_seq=5)])
    assert state is not None and (state.read_seq, state.unread) == (11, 0)


async def test_membership_outlives_its_events(store: Store) -> None:
    log = await filled(store, 2)
    await log.append(EventKind.JOIN, "u_ann", users=["u_cem"])
    await log.append(EventKind.ROLE, "u_ann", users=["u_cem"], role=Role.ADMIN)
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    await log.say_many("u_ann", 2)
    await store.expire(log.channel_id, before(8), ALL)
    roles = {member.user_id: member.role for member in await store.members(log.channel_id)}
    assert roles == {"u_ann": Role.OWNER, "u_cem": Role.ADMIN}
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
    grant = await store.grant(log.channel_id, "u_bob")
    assert isinstance(grant, Grant) and grant.members_seq == log.seq


async def test_a_groups_own_setting_is_an_event_and_channels_are_listed_with_it(store: Store) -> None:
    first, second = await filled(store, 1), await filled(store, 1)
    await second.append(EventKind.RETENTION, "u_ann", retention_s=86_400)
    state = await store.channel(second.channel_id)
    assert state is not None and state.retention_s == 86_400
    [told] = await store.events([EventRange(second.channel_id, 2, 1)])
    assert [(event.kind, event.retention_s) for event in told] == [(EventKind.RETENTION, 86_400)]
    listed = await store.kept_channels("", ALL)
    assert [each.channel_id for each in listed] == sorted(each.channel_id for each in listed)
    by_id = {each.channel_id: each for each in listed}
    assert by_id[first.channel_id] == Keeping(first.channel_id, 0)
    assert by_id[second.channel_id].retention_s == 86_400
    after = await store.kept_channels(listed[0].channel_id, 1)
    assert [each.channel_id for each in after] == [listed[1].channel_id]


async def test_a_cursor_whose_event_is_gone_is_of_no_other_log(store: Store) -> None:
    log = await filled(store)
    await store.expire(log.channel_id, before(8), ALL)
    assert await store.message_ids([(log.channel_id, 3)]) == {}
    assert await store.message_ids([(log.channel_id, 9)]) == {log.channel_id: before(9)}
