"""Reading ranges for sync."""

from __future__ import annotations

from channel_log import ChannelLog

from chatkernel.protocol import EventKind
from chatkernel.storage.model import EventRange
from chatkernel.storage.open import Store


async def test_ranges_are_answered_one_by_one(store: Store) -> None:
    a, b = ChannelLog(store), ChannelLog(store)
    for log in (a, b):
        await log.create("u_ann", "u_bob")
        await log.say_many("u_ann", 9)
    ranges = [
        EventRange(a.channel_id, 8, 50),
        EventRange(b.channel_id, 0, 3),
        EventRange(a.channel_id, 2, 50, upto_seq=4),
        EventRange(b.channel_id, 10, 5),
        EventRange("local_gnone", 0, 5),
        EventRange(b.channel_id, 0, 3),
    ]
    found = [[event.seq for event in events] for events in await store.events(ranges)]
    assert found == [[9, 10], [1, 2, 3], [3, 4], [], [], [1, 2, 3]]
    assert await store.events([]) == []


async def test_more_ranges_than_one_statement_takes(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    ranges = [EventRange(log.channel_id, 0, 1)] * 2500
    assert [len(events) for events in await store.events(ranges)] == [1] * 2500


async def test_sync_gives_events_as_they_were_appended(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "first")
    edit = await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="second")
    assert await store.events([EventRange(log.channel_id, 1, 10)]) == [[said, edit]]


async def test_a_deleted_text_is_gone_from_sync_and_so_are_its_edits(store: Store) -> None:
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob")
    said = await log.say("u_ann", "first", metadata={"secret": 1})
    await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="second")
    await log.append(EventKind.DELETE, "u_ann", target_id=said.message_id)
    await log.append(EventKind.EDIT, "u_ann", target_id=said.message_id, text="too late")
    [events] = await store.events([EventRange(log.channel_id, 1, 10)])
    assert [(event.kind, event.text, event.metadata) for event in events] == [
        (EventKind.MESSAGE, None, None),
        (EventKind.EDIT, None, None),
        (EventKind.DELETE, None, None),
        (EventKind.EDIT, None, None),
    ]


async def test_places_are_known_as_of_now_too(store: Store) -> None:
    log, other = ChannelLog(store), ChannelLog(store)
    for each in (log, other):
        await each.create("u_ann", "u_bob")
    said = await log.say("u_ann", "x")
    places = [(log.channel_id, said.seq), (other.channel_id, said.seq), ("local_gnone", 2**53 - 1)]
    assert await store.message_ids(places, as_of_now=True) == {log.channel_id: said.message_id}
    assert await store.message_ids([], as_of_now=True) == {}
