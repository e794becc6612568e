"""What erasing a person leaves: tombstones with their seqs, and digests of the names."""

from __future__ import annotations

import msgspec
import pytest
from channel_log import START_MS, ChannelLog

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import EventKind
from chatkernel.storage.erased import SUBJECT_HOLD_MS
from chatkernel.storage.model import (
    Device,
    EventRange,
    FriendAction,
    PageQuery,
    RefreshOutcome,
    User,
    Watermark,
)
from chatkernel.storage.open import Store

NOW = START_MS


async def person(store: Store, name: str) -> str:
    user_id = f"u_{name}"
    await store.create_user(User(user_id, name, name.title(), NOW), f"hash of {name}")
    await store.add_device(Device(f"d_{name}", user_id, f"{name}'s phone", NOW, NOW))
    return user_id


async def test_the_account_and_all_that_is_keyed_by_it_goes(store: Store) -> None:
    ann, bob, cem = [await person(store, name) for name in ("ann", "bob", "cem")]
    await store.put_settings(ann, {"theme": "dark"}, None)
    await store.put_refresh("token", ann, "d_ann", NOW + 1000)
    await store.friend_action(ann, bob, FriendAction.REQUEST, NOW)
    await store.friend_action(bob, ann, FriendAction.ACCEPT, NOW)
    await store.friend_action(cem, ann, FriendAction.BLOCK, NOW)
    for _ in range(2):
        await store.forget_person(ann, NOW)
    assert await store.users([ann]) == {}
    assert await store.user_by_name("ann") is None
    assert await store.credentials("ann") is None
    assert await store.devices(ann) == []
    assert await store.device("d_ann") is None
    assert await store.live_devices(["d_ann"]) == set()
    assert (await store.rotate_refresh("token", "new", NOW, NOW + 1)).outcome is RefreshOutcome.UNKNOWN
    assert (await store.settings(ann)).version == 0
    assert (await store.friends(bob)).friends == (await store.friends(cem)).friends == []
    assert (await store.users([bob, cem])).keys() == {bob, cem}


async def test_the_user_name_is_never_given_again(store: Store) -> None:
    ann = await person(store, "ann")
    await store.forget_person(ann, NOW)
    with pytest.raises(ChatError) as caught:
        await store.create_user(User("u_other", "ANN", "Other", NOW), "")
    assert caught.value.code is Code.USERNAME_TAKEN
    assert await store.user_by_name("ann") is None
    assert (await store.user_of_subject("https://id", "s1", User("u_x", "ann", "X", NOW))).username == "ann-2"


async def test_an_issuers_person_gets_no_new_account_for_a_day_and_then_an_empty_one(store: Store) -> None:
    new = User("u_1", "ann", "Ann", NOW)
    assert (await store.user_of_subject("https://id", "s1", new)).user_id == "u_1"
    await store.forget_person("u_1", NOW)
    again = msgspec.structs.replace(new, user_id="u_2", created_at=NOW + SUBJECT_HOLD_MS - 1)
    with pytest.raises(ChatError) as caught:
        await store.user_of_subject("https://id", "s1", again)
    assert caught.value.code is Code.ACCOUNT_ERASED
    later = msgspec.structs.replace(again, created_at=NOW + SUBJECT_HOLD_MS)
    found = await store.user_of_subject("https://id", "s1", later)
    assert (found.user_id, found.username) == ("u_2", "ann-2")


async def test_a_locked_account_lets_nobody_in(store: Store) -> None:
    ann = await person(store, "ann")
    await store.put_refresh("token", ann, "d_ann", NOW + 1000)
    await store.lock_person(ann)
    credentials = await store.credentials("ann")
    assert credentials is not None and credentials.suspended and credentials.password_hash == ""
    assert await store.live_devices(["d_ann"]) == set()
    assert (await store.rotate_refresh("token", "new", NOW, NOW + 1)).outcome is RefreshOutcome.UNKNOWN
    with pytest.raises(ChatError):
        await store.add_device(Device("d_new", ann, "", NOW, NOW), None, "hash of ann")


async def talk(store: Store) -> ChannelLog:
    """Ann and Bob, each with words, edits and reactions."""
    log = ChannelLog(store)
    await log.create("u_ann", "u_bob", name="Team")
    first = await log.say("u_ann", "mine", metadata={"at": "home"})
    second = await log.say("u_bob", "yours")
    await log.append(EventKind.EDIT, "u_ann", target_id=first.message_id, text="mine, better")
    await log.append(EventKind.REACTION, "u_ann", target_id=second.message_id, emoji="x", on=True)
    await log.append(EventKind.REACTION, "u_bob", target_id=second.message_id, emoji="x", on=True)
    await log.append(EventKind.EDIT, "u_bob", target_id=second.message_id, text="yours, better")
    await log.say("u_ann", "bye", reply_to=second.message_id)
    return log


async def test_what_a_person_wrote_becomes_tombstones_in_batches(store: Store) -> None:
    log = await talk(store)
    for limit in (2, 1, 500):
        after, more, changed = "", True, 0
        while more:
            done = await store.blank(log.channel_id, "u_ann", after, limit)
            after, more = done.upto, done.more
            changed += done.changed
        assert changed == 4
    [events] = await store.events([EventRange(log.channel_id, 0, 100)])
    assert [event.seq for event in events] == list(range(1, 9))
    theirs = [event for event in events if event.sender_id == "u_ann"]
    assert not any(event.text or event.metadata or event.emoji for event in theirs)
    items = (await store.page(PageQuery(log.channel_id, 0, 50))).items
    shown = [
        (item.event.text, item.deleted, item.edited_at is not None, item.reactions) for item in items[1:]
    ]
    assert shown == [
        (None, True, False, None),
        ("yours, better", False, True, {"x": ["u_bob"]}),
        (None, True, False, None),
    ]
    page = await store.conversations("u_bob", cursor=None, limit=1, archived=False)
    last = page.conversations[0].last_message
    assert last is not None and last.deleted and last.event.text is None


async def test_an_edit_that_comes_after_the_tombstone_brings_nothing_back(store: Store) -> None:
    log = await talk(store)
    await store.blank(log.channel_id, "u_ann", "", 100)
    items = (await store.page(PageQuery(log.channel_id, 0, 50))).items
    await log.append(EventKind.EDIT, "u_ann", target_id=items[1].event.message_id, text="back again")
    items = (await store.page(PageQuery(log.channel_id, 0, 50))).items
    assert (items[1].event.text, items[1].deleted) == (None, True)
    [events] = await store.events([EventRange(log.channel_id, 8, 100)])
    assert [event.text for event in events] == [None]


async def test_where_somebody_wrote_is_found_whether_they_are_still_there(store: Store) -> None:
    logs = [await talk(store) for _ in range(2)]
    quiet = ChannelLog(store)
    await quiet.create("u_bob", "u_ann")
    await logs[1].append(EventKind.LEAVE, "u_ann", users=["u_ann"])
    asked = [logs[1].channel_id, quiet.channel_id, logs[0].channel_id]
    assert await store.wrote_in("u_ann", asked) == [logs[1].channel_id, logs[0].channel_id]
    assert await store.wrote_in("u_cem", asked) == []
    assert await store.wrote_in("u_ann", []) == []


async def test_what_somebody_sent_is_read_in_pages_as_it_is_now(store: Store) -> None:
    log = await talk(store)
    found, after = [], ""
    while page := await store.sent(log.channel_id, "u_ann", after, 2):
        found += page
        after = page[-1].client_msg_id
    assert [(event.seq, event.text) for event in sorted(found, key=lambda event: event.seq)] == [
        (1, None),
        (2, "mine, better"),
        (4, "mine, better"),
        (5, None),
        (8, "bye"),
    ]


async def test_marks_in_a_channel_that_was_left_go(store: Store) -> None:
    log = await talk(store)
    await store.put_watermarks([Watermark(log.channel_id, "u_bob", read_seq=3)])
    await log.append(EventKind.LEAVE, "u_bob", users=["u_bob"])
    await store.forget_marks("u_bob")
    await store.forget_marks("u_nobody")
    assert [member.user_id for member in await store.members(log.channel_id)] == ["u_ann"]
    # Somebody who comes in again begins anew.
    await log.append(EventKind.JOIN, "u_ann", users=["u_bob"])
    bob = {member.user_id: member for member in await store.members(log.channel_id)}["u_bob"]
    assert bob.read_seq == 0


async def test_an_erase_event_is_a_change_that_no_page_lists(store: Store) -> None:
    log = await talk(store)
    await log.append(EventKind.ERASE, "u_ann", users=["u_ann"])
    [events] = await store.events([EventRange(log.channel_id, 8, 10)])
    assert [(event.kind, event.users) for event in events] == [(EventKind.ERASE, ["u_ann"])]
    kinds = [item.event.kind for item in (await store.page(PageQuery(log.channel_id, 0, 50))).items]
    assert EventKind.ERASE not in kinds
