"""How many may be in a group, and who may be kept out of one."""

import asyncio

import pytest
from support.api_calls import problem, sign_up

from chatkernel.ids import new_user_id, now_ms
from chatkernel.storage.model import User
from chatkernel.storage.open import open_store

MOST = 500


@pytest.fixture
async def many(pod):
    """People who exist; nobody logs in as one of them."""
    store = await open_store(pod.settings.store_url)
    ids = [new_user_id() for _ in range(MOST + 2)]
    await asyncio.gather(*(store.create_user(User(i, i, i, now_ms()), "") for i in ids))
    await store.aclose()
    return ids


async def group(owner, members=()):
    body = {"kind": "group", "name": "team", "members": list(members)}
    return (await owner.ok("POST", "/v1/channels", body))["channel_id"]


def full(response):
    assert problem(response, 409, "limit_reached")["limit"] == MOST


async def test_a_group_takes_five_hundred_and_not_one_more(http, many):
    anna = await sign_up(http)
    channel = await group(anna)
    path = f"/v1/channels/{channel}/members"
    full(await anna.ask("POST", path, {"user_ids": many[:MOST]}))
    assert len((await anna.ok("POST", path, {"user_ids": many[: MOST - 1]}))["added"]) == MOST - 1
    full(await anna.ask("POST", path, {"user_ids": many[MOST : MOST + 1]}))
    assert (await anna.ok("GET", f"/v1/channels/{channel}"))["member_count"] == MOST
    # Who is in it already is no one more.
    assert (await anna.ok("POST", path, {"user_ids": many[:3]})) == {"added": []}


async def test_two_who_add_at_once_do_not_make_it_too_large_together(http, many):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna, [ben.id, *many[: MOST - 4]])
    path = f"/v1/channels/{channel}/members"
    await anna.ok("PUT", f"{path}/{ben.id}/role", {"role": "admin"})
    rest = many[MOST - 4 :]
    answers = await asyncio.gather(
        anna.ask("POST", path, {"user_ids": rest[:2]}), ben.ask("POST", path, {"user_ids": rest[2:4]})
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    full(next(answer for answer in answers if answer.status_code == 409))
    assert (await anna.ok("GET", f"/v1/channels/{channel}"))["member_count"] == MOST


async def test_only_somebody_who_exists_is_banned(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = await group(anna)
    path = f"/v1/channels/{channel}"
    before = await anna.ok("GET", path)
    for nobody in ("u_nobody", "x"):
        document = problem(
            await anna.ask("DELETE", f"{path}/members/{nobody}?ban=true"), 404, "user_not_found"
        )
        assert document["field"] == "user_id"
    assert await anna.ok("GET", path) == before
    # A person who is not in the group may be kept out of it beforehand.
    await anna.ok("DELETE", f"{path}/members/{ben.id}?ban=true")
    assert (await anna.ok("GET", path))["member_count"] == 1
    problem(await ben.ask("GET", path), 403, "banned")
