"""Accounts: unique names, profiles, people of an issuer of their own."""

from __future__ import annotations

import asyncio

import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Credentials, User
from chatkernel.storage.open import Store


def user(user_id: str, username: str) -> User:
    return User(user_id, username, username.title(), 1_000)


async def test_names_are_unique_without_regard_to_case(store: Store) -> None:
    await store.create_user(user("u_1", "Ann"), "hash")
    for name in ("Ann", "ann", "ANN"):
        with pytest.raises(ChatError) as refused:
            await store.create_user(user("u_2", name), "hash")
        assert refused.value.code is Code.USERNAME_TAKEN
    found = await store.user_by_name("aNN")
    assert found is not None
    assert (found.user_id, found.username) == ("u_1", "Ann")
    assert await store.user_by_name("an") is None


async def test_two_sign_ups_at_once(store: Store) -> None:
    made = await asyncio.gather(
        *(store.create_user(user(f"u_{n}", "same"), "hash") for n in range(8)), return_exceptions=True
    )
    refusals = [error for error in made if isinstance(error, ChatError)]
    assert [error.code for error in refusals] == [Code.USERNAME_TAKEN] * 7


async def test_credentials_and_profile(store: Store) -> None:
    await store.create_user(user("u_1", "ann"), "old")
    await store.set_password("u_1", "new")
    await store.set_suspended("u_1", True)
    assert await store.credentials("ANN") == Credentials("u_1", "new", True)
    assert await store.credentials("bob") is None
    changed = await store.update_profile("u_1", display_name="Ann B", about=None, avatar_url="https://a/b")
    assert (changed.display_name, changed.about, changed.avatar_url) == ("Ann B", "", "https://a/b")
    assert await store.users(["u_1", "u_none", "u_1"]) == {"u_1": changed}
    assert await store.users([]) == {}
    with pytest.raises(ChatError) as refused:
        await store.update_profile("u_none", display_name="x", about=None, avatar_url=None)
    assert refused.value.code is Code.USER_NOT_FOUND


async def test_last_active_only_moves_forward(store: Store) -> None:
    await store.create_user(user("u_1", "ann"), "")
    for at in (500, 900, 700):
        await store.touch_active({"u_1": at, "u_none": at})
    assert (await store.users(["u_1"]))["u_1"].last_active_at == 900


async def test_a_person_of_another_issuer_gets_one_account(store: Store) -> None:
    await store.create_user(user("u_1", "ann"), "hash")
    made = await asyncio.gather(
        *(store.user_of_subject("https://id", "s1", user(f"u_s{n}", "Ann")) for n in range(4))
    )
    assert len({found.user_id for found in made}) == 1
    assert made[0].username == "Ann-2"
    other = await store.user_of_subject("https://other", "s1", user("u_x", "ann"))
    assert other.username == "ann-3"
