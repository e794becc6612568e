"""Profiles, settings, friends, blocks and presence by HTTP."""

import asyncio

from support.api_calls import problem, sign_up
from support.api_pod import serving, settings_of
from support.valkey import eventually

from chatkernel.ids import new_user_id
from chatkernel.protocol import WATCHES_MAX, Limits


async def test_profiles_are_changed_and_seen_by_others(http):
    anna, ben = await sign_up(http), await sign_up(http)
    change = {"display_name": "Anna B", "about": "hello", "avatar_url": "https://example.org/a.png"}
    assert (await anna.ok("PATCH", "/v1/me", change))["about"] == "hello"
    seen = await ben.ok("GET", f"/v1/users/{anna.id}")
    assert {name: seen[name] for name in change} == change
    assert (await ben.ok("GET", "/v1/users", params={"username": anna.username.upper()})) == seen
    await anna.ok("PATCH", "/v1/me", {"about": ""})
    assert "about" not in await ben.ok("GET", f"/v1/users/{anna.id}")
    problem(await ben.ask("GET", "/v1/users/u_nobody"), 404, "user_not_found")
    problem(await ben.ask("GET", "/v1/users?username=nobody-here"), 404, "user_not_found")


async def test_bad_profiles_are_refused_by_field(http):
    anna = await sign_up(http)
    for body, field in (
        ({"avatar_url": "javascript:alert(1)"}, "avatar_url"),
        ({"about": "x" * 501}, "about"),
        ({"display_name": "a\u2066b"}, "display_name"),
        ({"display_name": ""}, "display_name"),
    ):
        assert problem(await anna.ask("PATCH", "/v1/me", body), 422, "invalid_field")["field"] == field


async def test_settings_carry_a_version_and_the_slower_of_two_writers_is_told(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    first = await laptop.ask("GET", "/v1/me/settings")
    etag = first.headers["etag"]
    stored = await laptop.ask("PUT", "/v1/me/settings", {"values": {"a": 1}}, headers={"if-match": etag})
    assert stored.status_code == 200 and stored.headers["etag"] != etag
    late = await phone.ask("PUT", "/v1/me/settings", {"values": {"a": 2}}, headers={"if-match": etag})
    problem(late, 409, "conflict")
    assert (await phone.ok("GET", "/v1/me/settings"))["values"] == {"a": 1}
    await phone.ok("PUT", "/v1/me/settings", {"values": {"b": [1, {"c": None}]}})
    assert (await laptop.ok("GET", "/v1/me/settings"))["values"] == {"b": [1, {"c": None}]}


async def test_settings_have_limits(http):
    anna = await sign_up(http)
    large = await anna.ask("PUT", "/v1/me/settings", {"values": {"a": "x" * 16384}})
    assert problem(large, 422, "invalid_field")["limit"] == 16384
    odd = await anna.ask("PUT", "/v1/me/settings", {"values": {}}, headers={"if-match": '"x"'})
    assert problem(odd, 422, "invalid_field")["field"] == "If-Match"
    problem(await anna.ask("PUT", "/v1/me/settings", {"values": [1]}), 422, "invalid_field")


async def test_friends_ask_accept_and_part(http):
    anna, ben = await sign_up(http), await sign_up(http)
    assert (await anna.ok("PUT", f"/v1/friends/{ben.id}"))["state"] == "requested"
    assert (await anna.ok("PUT", f"/v1/friends/{ben.id}"))["state"] == "requested"
    (pending,) = (await ben.ok("GET", "/v1/friends"))["friends"]
    assert (pending["user_id"], pending["state"]) == (anna.id, "pending")
    assert (await ben.ok("PUT", f"/v1/friends/{anna.id}"))["state"] == "friends"
    assert (await anna.ok("GET", "/v1/friends"))["friends"][0]["state"] == "friends"
    await anna.ok("DELETE", f"/v1/friends/{ben.id}")
    assert (await ben.ok("GET", "/v1/friends"))["friends"] == []
    problem(await anna.ask("PUT", "/v1/friends/u_nobody"), 404, "user_not_found")
    problem(await anna.ask("PUT", f"/v1/friends/{anna.id}"), 422, "invalid_field")


async def test_friends_come_in_pages(http):
    anna = await sign_up(http)
    others = [await sign_up(http) for _ in range(5)]
    for other in others:
        await other.ok("PUT", f"/v1/friends/{anna.id}")
    seen, cursor = [], None
    while True:
        asked = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = await anna.ok("GET", "/v1/friends", params=asked)
        seen += [friend["user_id"] for friend in page["friends"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert sorted(seen) == sorted(other.id for other in others)
    assert len((await anna.ok("GET", "/v1/friends"))["friends"]) == 5
    document = problem(await anna.ask("GET", "/v1/friends?limit=201"), 422, "invalid_field")
    assert (document["field"], document["limit"]) == ("limit", 200)
    assert problem(await anna.ask("GET", "/v1/friends?cursor=x"), 422, "invalid_field")["field"] == "cursor"


async def test_friends_have_a_limit_and_strangers_cannot_use_it_up(valkey, tmp_path):
    limits = Limits(friends_max=2)
    async with serving(settings_of(tmp_path, valkey.url, limits=limits)) as (_, http):
        anna, *others = [await sign_up(http) for _ in range(7)]

        def refused(response):
            document = problem(response, 409, "limit_reached")
            assert (document["field"], document["limit"]) == ("user_id", 2)

        for stranger in others[:2]:
            await stranger.ok("PUT", f"/v1/friends/{anna.id}")
        refused(await others[2].ask("PUT", f"/v1/friends/{anna.id}"))
        # What strangers want of her is not counted as hers.
        for friend in others[3:5]:
            assert (await anna.ok("PUT", f"/v1/friends/{friend.id}"))["state"] == "requested"
        refused(await anna.ask("PUT", f"/v1/friends/{others[5].id}"))
        refused(await anna.ask("PUT", f"/v1/friends/{others[0].id}"))
        await anna.ok("PUT", f"/v1/friends/{others[3].id}")
        await anna.ok("DELETE", f"/v1/friends/{others[3].id}")
        assert (await anna.ok("PUT", f"/v1/friends/{others[0].id}"))["state"] == "friends"
        await others[2].ok("PUT", f"/v1/friends/{anna.id}")


async def test_limits_of_profiles_settings_and_names_are_settings(valkey, tmp_path):
    limits = Limits(about_max_chars=5, avatar_url_max_chars=20, settings_max_bytes=300, username_max_chars=40)
    async with serving(settings_of(tmp_path, valkey.url, limits=limits)) as (_, http):
        anna = await sign_up(http, username="x" * 40)
        for path, body, field, limit in (
            ("/v1/me", {"about": "x" * 6}, "about", 5),
            ("/v1/me", {"avatar_url": "https://example.org/a.png"}, "avatar_url", 20),
        ):
            document = problem(await anna.ask("PATCH", path, body), 422, "invalid_field")
            assert (document["field"], document["limit"]) == (field, limit)
        large = await anna.ask("PUT", "/v1/me/settings", {"values": {"a": "x" * 300}})
        assert problem(large, 422, "invalid_field")["limit"] == 300


async def test_two_who_ask_each_other_at_once_are_friends(http):
    anna, ben = await sign_up(http), await sign_up(http)
    await asyncio.gather(anna.ok("PUT", f"/v1/friends/{ben.id}"), ben.ok("PUT", f"/v1/friends/{anna.id}"))
    assert (await anna.ok("GET", "/v1/friends"))["friends"][0]["state"] == "friends"


async def test_who_is_blocked_cannot_ask_or_write(http):
    anna, ben = await sign_up(http), await sign_up(http)
    channel = (await ben.ok("POST", "/v1/channels", {"kind": "direct", "user_id": anna.id}))["channel_id"]
    send = {"channel_id": channel, "text": "hi"}
    await ben.frame("send", client_msg_id="1", **send)
    assert (await anna.ask("PUT", f"/v1/blocks/{ben.id}")).status_code == 204
    problem(await ben.ask("PUT", f"/v1/friends/{anna.id}"), 403, "blocked")
    refused = {"type": "send", "id": "f", "client_msg_id": "2", **send}
    problem(await ben.ask("POST", "/v1/frames", refused), 403, "blocked")
    assert (await anna.ok("GET", "/v1/friends"))["friends"][0]["state"] == "blocked"
    assert (await ben.ok("GET", "/v1/friends"))["friends"] == []
    assert (await anna.ask("DELETE", f"/v1/blocks/{ben.id}")).status_code == 204
    await ben.frame("send", client_msg_id="2", **send)


async def test_presence_is_asked_for_many_at_once(http):
    anna, ben = await sign_up(http), await sign_up(http)

    async def both_are_off_line() -> bool:
        # While presence was begun a moment ago, nobody can tell.
        listed = await anna.ok("GET", "/v1/presence", params={"user_ids": f"{anna.id},{ben.id}"})
        return [(entry["user_id"], entry["state"]) for entry in listed["entries"]] == [
            (anna.id, "offline"),
            (ben.id, "offline"),
        ]

    await eventually(both_are_off_line)
    many = ",".join(f"u_{n}" for n in range(201))
    assert (
        problem(await anna.ask("GET", f"/v1/presence?user_ids={many}"), 422, "invalid_field")["limit"] == 200
    )
    problem(await anna.ask("GET", "/v1/presence"), 422, "invalid_field")


async def test_as_many_as_may_be_set_can_be_asked_for_in_one_request(valkey, tmp_path):
    limits = Limits(watches_max=WATCHES_MAX)
    async with serving(settings_of(tmp_path, valkey.url, limits=limits)) as (_, http):
        anna = await sign_up(http)
        people = [new_user_id() for _ in range(WATCHES_MAX)]
        listed = await anna.ok("GET", "/v1/presence", params={"user_ids": ",".join(people)})
        assert [entry["user_id"] for entry in listed["entries"]] == people
        watched = await anna.frame("presence.watch", user_ids=people)
        assert len(watched["frames"][0]["entries"]) == WATCHES_MAX
