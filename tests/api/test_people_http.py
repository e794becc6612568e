"""Profiles, settings, friends, blocks and presence by HTTP."""

import asyncio

from support.api_calls import problem, sign_up


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
    listed = await anna.ok("GET", "/v1/presence", params={"user_ids": f"{anna.id},{ben.id}"})
    assert [(e["user_id"], e["state"]) for e in listed["entries"]] == [
        (anna.id, "offline"),
        (ben.id, "offline"),
    ]
    many = ",".join(f"u_{n}" for n in range(201))
    assert (
        problem(await anna.ask("GET", f"/v1/presence?user_ids={many}"), 422, "invalid_field")["limit"] == 200
    )
    problem(await anna.ask("GET", "/v1/presence"), 422, "invalid_field")
