"""Devices and refresh tokens: rotation, reuse, revocation."""

from __future__ import annotations

import asyncio

import pytest

from chatkernel.errors import ChatError, Code
from chatkernel.storage.model import Device, RefreshOutcome, RefreshResult, User
from chatkernel.storage.open import Store
from chatkernel.storage.refresh import RETRY_GRACE_MS


@pytest.fixture
async def people(store: Store) -> None:
    for user_id, name in (("u_ann", "ann"), ("u_bob", "bob")):
        await store.create_user(User(user_id, name, name, 1), "")


def device(device_id: str, user_id: str = "u_ann", at: int = 100) -> Device:
    return Device(device_id, user_id, "Phone", at, at)


@pytest.mark.usefixtures("people")
async def test_devices_live_until_revoked(store: Store) -> None:
    for number, device_id in enumerate(("d_1", "d_2", "d_3")):
        await store.add_device(device(device_id, at=number))
    assert [found.device_id for found in await store.devices("u_ann")] == ["d_3", "d_2", "d_1"]
    assert await store.rename_device("u_ann", "d_1", "Desk")
    assert not await store.rename_device("u_bob", "d_1", "Mine")
    assert (await store.device("d_1")).name == "Desk"  # type: ignore[union-attr]
    assert await store.revoke_devices("u_bob", ["d_1"], 500) == []
    assert await store.revoke_devices("u_ann", ["d_1", "d_none"], 500) == ["d_1"]
    assert await store.live_devices(["d_1", "d_2", "d_none"]) == {"d_2"}
    assert sorted(await store.revoke_devices("u_ann", None, 600)) == ["d_2", "d_3"]
    assert await store.devices("u_ann") == []
    assert (await store.device("d_1")).revoked_at == 500  # type: ignore[union-attr]
    assert await store.device("d_none") is None


@pytest.mark.usefixtures("people")
async def test_devices_of_a_suspended_account_are_not_live(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.set_suspended("u_ann", True)
    assert await store.live_devices(["d_1"]) == set()
    await store.set_suspended("u_ann", False)
    assert await store.live_devices(["d_1"]) == {"d_1"}


@pytest.mark.usefixtures("people")
async def test_a_device_id_is_revived_by_its_person_only(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("old", "u_ann", "d_1", 10_000)
    await store.revoke_devices("u_ann", None, 500)
    with pytest.raises(ChatError) as refused:
        await store.add_device(device("d_1", "u_bob"))
    assert refused.value.code is Code.CONFLICT
    await store.add_device(device("d_1", at=700))
    assert await store.live_devices(["d_1"]) == {"d_1"}
    result = await store.rotate_refresh("old", "new", 800, 10_000)
    assert result.outcome is RefreshOutcome.UNKNOWN


@pytest.mark.usefixtures("people")
async def test_a_refresh_token_works_once(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 1_000)
    assert await store.rotate_refresh("none", "x", 200, 2_000) == RefreshResult(RefreshOutcome.UNKNOWN)
    rotated = RefreshResult(RefreshOutcome.ROTATED, "u_ann", "d_1")
    assert await store.rotate_refresh("t1", "t2", 200, 2_000) == rotated
    assert await store.rotate_refresh("t2", "t3", 300, 3_000) == rotated
    assert await store.live_devices(["d_1"]) == {"d_1"}
    assert (await store.rotate_refresh("t1", "t9", 400, 9_000)).outcome is RefreshOutcome.REUSED
    assert await store.live_devices(["d_1"]) == set()
    assert (await store.rotate_refresh("t3", "t9", 500, 9_000)).outcome is RefreshOutcome.REVOKED


@pytest.mark.usefixtures("people")
async def test_a_refresh_token_expires(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 1_000)
    assert (await store.rotate_refresh("t1", "t2", 1_000, 9_000)).outcome is RefreshOutcome.EXPIRED


@pytest.mark.usefixtures("people")
async def test_the_devices_unseen_for_longest_give_way(store: Store) -> None:
    for number, device_id in enumerate(("d_1", "d_2", "d_3")):
        assert await store.add_device(device(device_id, at=number), 3) == []
    await store.touch_device("d_1", 500)
    assert await store.add_device(device("d_4", at=600), 3) == ["d_2"]
    assert await store.add_device(device("d_4", at=601), 3) == []
    assert await store.live_devices(["d_1", "d_2", "d_3", "d_4"]) == {"d_1", "d_3", "d_4"}


async def test_a_device_is_added_only_while_the_password_is_the_one_that_was_verified(store: Store) -> None:
    await store.create_user(User("u_ann", "ann", "ann", 1), "old")
    assert await store.add_device(device("d_1"), 3, "old") == []
    assert await store.set_password("u_ann", "new", "old")
    assert not await store.set_password("u_ann", "newer", "old")
    with pytest.raises(ChatError) as refused:
        await store.add_device(device("d_2"), 3, "old")
    assert refused.value.code is Code.WRONG_CREDENTIALS
    assert await store.live_devices(["d_1", "d_2"]) == {"d_1"}


@pytest.mark.usefixtures("people")
async def test_a_refresh_whose_answer_was_lost_can_be_asked_for_again(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 9_000_000)
    for lost in ("t2", "t3"):
        assert (await store.rotate_refresh("t1", lost, 200, 9_000_000)).outcome is RefreshOutcome.ROTATED
    at = 200 + RETRY_GRACE_MS
    assert (await store.rotate_refresh("t1", "t4", at, 9_000_000)).outcome is RefreshOutcome.ROTATED
    assert (await store.rotate_refresh("t4", "t5", at, 9_000_000)).outcome is RefreshOutcome.ROTATED
    assert await store.live_devices(["d_1"]) == {"d_1"}
    assert (await store.rotate_refresh("t1", "t6", at, 9_000_000)).outcome is RefreshOutcome.REUSED
    assert await store.live_devices(["d_1"]) == set()


@pytest.mark.usefixtures("people")
async def test_a_successor_that_was_replaced_tells_that_two_go_on_from_one_token(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 9_000_000)
    await store.rotate_refresh("t1", "mine", 200, 9_000_000)
    assert (await store.rotate_refresh("t1", "thief", 300, 9_000_000)).outcome is RefreshOutcome.ROTATED
    assert (await store.rotate_refresh("mine", "x", 400, 9_000_000)).outcome is RefreshOutcome.REUSED
    assert (await store.rotate_refresh("thief", "y", 500, 9_000_000)).outcome is RefreshOutcome.REVOKED


@pytest.mark.usefixtures("people")
async def test_an_answer_is_not_asked_for_again_long_after(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 9_000_000)
    await store.rotate_refresh("t1", "t2", 200, 9_000_000)
    late = 201 + RETRY_GRACE_MS
    assert (await store.rotate_refresh("t1", "t3", late, 9_000_000)).outcome is RefreshOutcome.REUSED


@pytest.mark.usefixtures("people")
async def test_the_same_token_shown_by_many_at_once_leaves_one_successor(store: Store) -> None:
    await store.add_device(device("d_1"))
    await store.put_refresh("t1", "u_ann", "d_1", 9_000_000)
    results = await asyncio.gather(
        *(store.rotate_refresh("t1", f"s{n}", 200 + n, 9_000_000) for n in range(6))
    )
    assert {result.outcome for result in results} == {RefreshOutcome.ROTATED}
    outcomes = [(await store.rotate_refresh(f"s{n}", f"x{n}", 300, 9_000_000)).outcome for n in range(6)]
    assert outcomes.count(RefreshOutcome.ROTATED) <= 1
    assert await store.live_devices(["d_1"]) == set()


@pytest.mark.usefixtures("people")
async def test_a_new_log_in_on_a_device_that_is_being_refreshed_stays(store: Store) -> None:
    """Whichever of the two comes first: the log-in works, and what came of the old token does not."""
    for number in range(10):
        device_id = f"d_{number}"
        await store.add_device(device(device_id))
        await store.put_refresh(f"old{number}", "u_ann", device_id, 9_000_000)

        async def log_in(device_id: str = device_id, number: int = number) -> None:
            await store.add_device(device(device_id))
            await store.put_refresh(f"in{number}", "u_ann", device_id, 9_000_000)

        refreshed, _ = await asyncio.gather(
            store.rotate_refresh(f"old{number}", f"line{number}", 200, 9_000_000), log_in()
        )
        assert refreshed.outcome in (RefreshOutcome.ROTATED, RefreshOutcome.UNKNOWN)
        line = await store.rotate_refresh(f"line{number}", f"x{number}", 300, 9_000_000)
        assert line.outcome is RefreshOutcome.UNKNOWN
        fresh = await store.rotate_refresh(f"in{number}", f"y{number}", 300, 9_000_000)
        assert fresh.outcome is RefreshOutcome.ROTATED
