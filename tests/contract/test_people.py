"""Friends, blocks and settings."""

from __future__ import annotations

import asyncio

import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Friend, FriendAction, FriendState, User, UserSettings
from chatkernel.storage.open import Store

REQUEST, ACCEPT, REMOVE, BLOCK, UNBLOCK = FriendAction
ANN, BOB = "u_ann", "u_bob"


@pytest.fixture(autouse=True)
async def people(store: Store) -> None:
    for user_id in (ANN, BOB, "u_cem"):
        await store.create_user(User(user_id, user_id, user_id, 1), "")


async def refusal(store: Store, user_id: str, other_id: str, action: FriendAction) -> Code:
    with pytest.raises(ChatError) as refused:
        await store.friend_action(user_id, other_id, action, 1)
    return refused.value.code


async def test_request_and_accept(store: Store) -> None:
    assert (await store.friend_action(ANN, BOB, REQUEST, 10)).state is FriendState.REQUESTED
    assert (await store.friend_action(ANN, BOB, REQUEST, 11)).state is FriendState.REQUESTED
    assert (await store.friends(ANN)).friends == [Friend(BOB, FriendState.REQUESTED, 10)]
    assert (await store.friends(BOB)).friends == [Friend(ANN, FriendState.PENDING, 10)]
    assert await store.friend_ids([ANN, BOB]) == {ANN: [], BOB: []}
    assert await refusal(store, ANN, BOB, ACCEPT) is Code.NOT_FOUND
    assert (await store.friend_action(BOB, ANN, ACCEPT, 20)).state is FriendState.FRIENDS
    assert (await store.friend_action(BOB, ANN, ACCEPT, 21)).state is FriendState.FRIENDS
    assert (await store.friends(ANN)).friends == [Friend(BOB, FriendState.FRIENDS, 20)]
    assert await store.friend_ids([ANN, BOB]) == {ANN: [BOB], BOB: [ANN]}


async def test_asking_each_other_makes_friends(store: Store) -> None:
    both = await asyncio.gather(
        store.friend_action(ANN, BOB, REQUEST, 10), store.friend_action(BOB, ANN, REQUEST, 10)
    )
    states = [change.state for change in both]
    assert sorted(filter(None, states)) == [FriendState.FRIENDS, FriendState.REQUESTED]
    assert await store.friend_ids([ANN]) == {ANN: [BOB]}


async def test_remove(store: Store) -> None:
    await store.friend_action(ANN, BOB, REQUEST, 10)
    await store.friend_action(BOB, ANN, ACCEPT, 20)
    assert (await store.friend_action(ANN, BOB, REMOVE, 30)).state is None
    assert (await store.friend_action(ANN, BOB, REMOVE, 31)).state is None
    assert (await store.friends(BOB)).friends == []


async def test_block_ends_it_and_holds_both_ways(store: Store) -> None:
    await store.friend_action(ANN, BOB, REQUEST, 10)
    assert (await store.friend_action(BOB, ANN, BLOCK, 20)).state is FriendState.BLOCKED
    assert (await store.friend_action(BOB, ANN, BLOCK, 21)).state is FriendState.BLOCKED
    assert (await store.friends(ANN)).friends == []
    assert (await store.friends(BOB)).friends == [Friend(ANN, FriendState.BLOCKED, 20)]
    assert await store.blocked_between(ANN, BOB)
    assert await store.blocked_between(BOB, ANN)
    assert not await store.blocked_between(ANN, "u_cem")
    assert await refusal(store, ANN, BOB, REQUEST) is Code.BLOCKED
    assert await refusal(store, BOB, ANN, REQUEST) is Code.BLOCKED
    assert (await store.friend_action(ANN, BOB, REMOVE, 22)).state is None
    assert (await store.friend_action(BOB, ANN, UNBLOCK, 30)).state is None
    assert (await store.friend_action(ANN, BOB, REQUEST, 40)).state is FriendState.REQUESTED


async def test_it_is_news_only_for_whom_it_changes_something(store: Store) -> None:
    async def news(user_id: str, other_id: str, action: FriendAction) -> tuple[bool, bool]:
        change = await store.friend_action(user_id, other_id, action, 1)
        return change.changed, change.other_changed

    assert await news(ANN, BOB, REMOVE) == (False, False)
    assert await news(ANN, BOB, REQUEST) == (True, True)
    assert await news(ANN, BOB, REQUEST) == (False, False)
    assert await news(BOB, ANN, BLOCK) == (True, True)
    assert await news(BOB, ANN, BLOCK) == (False, False)
    assert await news(ANN, BOB, REMOVE) == (False, False)
    assert await news(BOB, ANN, UNBLOCK) == (True, False)
    assert await news(ANN, BOB, BLOCK) == (True, False)


async def test_limits_count_what_a_person_did_and_what_waits_for_the_other(store: Store) -> None:
    people = [f"u_{number}" for number in range(4)]
    for user_id in people:
        await store.create_user(User(user_id, user_id, user_id, 1), "")
    for user_id in people[:2]:
        await store.friend_action(user_id, ANN, REQUEST, 10, 2)
    for user_id, other_id in ((people[2], ANN), (ANN, people[3])):
        if user_id == ANN:
            await store.friend_action(ANN, BOB, REQUEST, 10, 2)
            await store.friend_action(ANN, "u_cem", REQUEST, 10, 2)
        with pytest.raises(ChatError) as refused:
            await store.friend_action(user_id, other_id, REQUEST, 10, 2)
        error = refused.value
        assert (error.code, error.field, error.limit) == (Code.LIMIT_REACHED, "user_id", 2)
    with pytest.raises(ChatError) as refused:
        await store.friend_action(ANN, people[0], ACCEPT, 10, 2)
    assert refused.value.code is Code.LIMIT_REACHED
    await store.friend_action(ANN, BOB, REMOVE, 10, 2)
    assert (await store.friend_action(ANN, people[0], REQUEST, 10, 2)).state is FriendState.FRIENDS


async def test_friends_come_in_pages_newest_first(store: Store) -> None:
    people = [f"u_{number}" for number in range(6)]
    for number, user_id in enumerate(people):
        await store.create_user(User(user_id, user_id, user_id, 1), "")
        await store.friend_action(user_id, ANN, BLOCK if number == 3 else REQUEST, 100 + number // 2)
        if number % 2:
            await store.friend_action(ANN, user_id, BLOCK, 100 + number // 2)
    seen, cursor = [], None
    while True:
        page = await store.friends(ANN, cursor, 2)
        assert len(page.friends) <= 2
        seen += [friend.user_id for friend in page.friends]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == ["u_4", "u_5", "u_2", "u_3", "u_0", "u_1"]
    with pytest.raises(ChatError) as refused:
        await store.friends(ANN, "nonsense", 2)
    assert refused.value.field == "cursor"


async def test_whom_each_has_blocked(store: Store) -> None:
    assert await store.blocked_by([ANN, BOB]) == {ANN: [], BOB: []}
    await store.friend_action(BOB, ANN, BLOCK, 20)
    assert await store.blocked_by([ANN, BOB, "u_none"]) == {ANN: [], BOB: [ANN], "u_none": []}
    assert await store.blocked_by([]) == {}


async def test_unknown_people(store: Store) -> None:
    assert await refusal(store, ANN, "u_none", REQUEST) is Code.USER_NOT_FOUND
    assert await refusal(store, ANN, ANN, REQUEST) is Code.INVALID_FIELD


async def test_settings_have_versions(store: Store) -> None:
    assert await store.settings(ANN) == UserSettings({}, 0)
    assert await store.put_settings(ANN, {"theme": "dark"}, 0) == UserSettings({"theme": "dark"}, 1)
    assert await store.put_settings(ANN, {"theme": "light"}, 0) is None
    assert await store.put_settings(ANN, {"a": [1, None]}, None) == UserSettings({"a": [1, None]}, 2)
    assert await store.settings(ANN) == UserSettings({"a": [1, None]}, 2)


async def test_a_person_blocks_no_more_than_the_limit(store: Store) -> None:
    people = [f"u_{number}" for number in range(4)]
    for user_id in people:
        await store.create_user(User(user_id, user_id, user_id, 1), "")
        await store.friend_action(user_id, ANN, BLOCK, 10, 2)  # by others: of no matter
    for user_id in people[:2]:
        await store.friend_action(ANN, user_id, BLOCK, 10, 2)
    await store.friend_action(ANN, people[0], BLOCK, 11, 2)  # again
    with pytest.raises(ChatError) as refused:
        await store.friend_action(ANN, people[2], BLOCK, 10, 2)
    error = refused.value
    assert (error.code, error.field, error.limit) == (Code.LIMIT_REACHED, "user_id", 2)
    page = await store.friends(ANN)
    assert {friend.user_id: friend.state for friend in page.friends} == dict.fromkeys(
        people[:2], FriendState.BLOCKED
    )
    await store.friend_action(ANN, people[0], UNBLOCK, 12, 2)
    assert (await store.friend_action(ANN, people[2], BLOCK, 12, 2)).state is FriendState.BLOCKED
