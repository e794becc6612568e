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
    assert await store.friend_action(ANN, BOB, REQUEST, 10) is FriendState.REQUESTED
    assert await store.friend_action(ANN, BOB, REQUEST, 11) is FriendState.REQUESTED
    assert await store.friends(ANN) == [Friend(BOB, FriendState.REQUESTED, 10)]
    assert await store.friends(BOB) == [Friend(ANN, FriendState.PENDING, 10)]
    assert await store.friend_ids([ANN, BOB]) == {ANN: [], BOB: []}
    assert await refusal(store, ANN, BOB, ACCEPT) is Code.NOT_FOUND
    assert await store.friend_action(BOB, ANN, ACCEPT, 20) is FriendState.FRIENDS
    assert await store.friend_action(BOB, ANN, ACCEPT, 21) is FriendState.FRIENDS
    assert await store.friends(ANN) == [Friend(BOB, FriendState.FRIENDS, 20)]
    assert await store.friend_ids([ANN, BOB]) == {ANN: [BOB], BOB: [ANN]}


async def test_asking_each_other_makes_friends(store: Store) -> None:
    both = await asyncio.gather(
        store.friend_action(ANN, BOB, REQUEST, 10), store.friend_action(BOB, ANN, REQUEST, 10)
    )
    assert sorted(filter(None, both)) == [FriendState.FRIENDS, FriendState.REQUESTED]
    assert await store.friend_ids([ANN]) == {ANN: [BOB]}


async def test_remove(store: Store) -> None:
    await store.friend_action(ANN, BOB, REQUEST, 10)
    await store.friend_action(BOB, ANN, ACCEPT, 20)
    assert await store.friend_action(ANN, BOB, REMOVE, 30) is None
    assert await store.friend_action(ANN, BOB, REMOVE, 31) is None
    assert await store.friends(BOB) == []


async def test_block_ends_it_and_holds_both_ways(store: Store) -> None:
    await store.friend_action(ANN, BOB, REQUEST, 10)
    assert await store.friend_action(BOB, ANN, BLOCK, 20) is FriendState.BLOCKED
    assert await store.friend_action(BOB, ANN, BLOCK, 21) is FriendState.BLOCKED
    assert await store.friends(ANN) == []
    assert await store.friends(BOB) == [Friend(ANN, FriendState.BLOCKED, 20)]
    assert await store.blocked_between(ANN, BOB)
    assert await store.blocked_between(BOB, ANN)
    assert not await store.blocked_between(ANN, "u_cem")
    assert await refusal(store, ANN, BOB, REQUEST) is Code.BLOCKED
    assert await refusal(store, BOB, ANN, REQUEST) is Code.BLOCKED
    assert await store.friend_action(ANN, BOB, REMOVE, 22) is None
    assert await store.friend_action(BOB, ANN, UNBLOCK, 30) is None
    assert await store.friend_action(ANN, BOB, REQUEST, 40) is FriendState.REQUESTED


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
