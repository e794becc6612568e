"""Accounts by HTTP: signing up, logging in and out, refreshing, passwords, devices."""

import asyncio
import time

import httpx
import jwt
import pytest
from support.api_calls import PASSWORD, log_in, problem, sign_up


async def test_signing_up_logs_in_and_the_profile_is_there(http):
    anna = await sign_up(http, display_name="Anna Ö", device_name="laptop")
    me = await anna.ok("GET", "/v1/me")
    assert (me["user_id"], me["username"], me["display_name"]) == (anna.id, anna.username, "Anna Ö")
    assert anna.tokens["expires_at"] > time.time() * 1000
    devices = (await anna.ok("GET", "/v1/me/devices"))["devices"]
    assert [(d["device_id"], d["name"]) for d in devices] == [(anna.device_id, "laptop")]


async def test_user_names_are_unique_without_regard_to_case(http):
    anna = await sign_up(http)
    body = {"username": anna.username.upper(), "password": PASSWORD}
    problem(await http.post("/v1/accounts", json=body), 409, "username_taken")
    assert (await log_in(http, anna.username.upper())).id == anna.id


@pytest.mark.parametrize(
    ("changes", "field", "limit"),
    [
        ({"username": "ab"}, "username", 3),
        ({"username": "x" * 33}, "username", 32),
        ({"username": "white space"}, "username", None),
        ({"username": "anna\u202egnp"}, "username", None),
        ({"username": 7}, "username", None),
        ({"password": "short"}, "password", 8),
        ({"password": "x" * 257}, "password", 256),
        ({"display_name": "a\u0000b"}, "display_name", None),
        ({"display_name": "a\u202eb"}, "display_name", None),
        ({"display_name": "x" * 81}, "display_name", 80),
        ({"display_name": "   "}, "display_name", None),
        ({"device_name": "bell\u0007"}, "device_name", None),
        ({"device_id": "no spaces please"}, "device_id", None),
    ],
)
async def test_a_refused_field_is_named_with_its_limit(http, changes, field, limit):
    body = {"username": "somebody", "password": PASSWORD, **changes}
    document = problem(await http.post("/v1/accounts", json=body), 422, "invalid_field")
    assert document["field"] == field
    assert limit is None or document["limit"] == limit


async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(http):
    anna = await sign_up(http)
    wrong = await http.post("/v1/sessions", json={"username": anna.username, "password": "wrong wrong"})
    nobody = await http.post("/v1/sessions", json={"username": "no-such-name", "password": "wrong wrong"})
    impossible = await http.post("/v1/sessions", json={"username": "?", "password": "wrong wrong"})
    problem(wrong, 401, "wrong_credentials")
    assert wrong.content == nobody.content == impossible.content


async def test_a_refresh_token_works_once_and_its_second_use_logs_the_device_out(http):
    anna = await sign_up(http)
    first = anna.tokens["refresh_token"]
    answer = await http.post("/v1/sessions/refresh", json={"refresh_token": first})
    assert answer.status_code == 200
    renewed = answer.json()
    assert renewed["device_id"] == anna.device_id and renewed["refresh_token"] != first
    anna.tokens = renewed
    await anna.ok("GET", "/v1/me")
    again = {"refresh_token": renewed["refresh_token"]}
    renewed = anna.tokens = (await http.post("/v1/sessions/refresh", json=again)).json()
    stolen = await http.post("/v1/sessions/refresh", json={"refresh_token": first})
    problem(stolen, 401, "token_reused")
    problem(await anna.ask("GET", "/v1/me"), 401, "device_revoked")
    after = await http.post("/v1/sessions/refresh", json={"refresh_token": renewed["refresh_token"]})
    assert after.status_code == 401


async def test_of_several_uses_of_a_refresh_token_at_once_one_successor_is_left(http):
    """Who asks again has not got the answer; what was replaced is worth nothing to anybody, and tells on its user."""
    anna = await sign_up(http)
    body = {"refresh_token": anna.tokens["refresh_token"]}
    answers = await asyncio.gather(*(http.post("/v1/sessions/refresh", json=body) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    successors = [{"refresh_token": answer.json()["refresh_token"]} for answer in answers]
    used = [(await http.post("/v1/sessions/refresh", json=each)).status_code for each in successors]
    assert used.count(200) <= 1
    problem(await anna.ask("GET", "/v1/me"), 401, "device_revoked")


async def test_an_invented_refresh_token_is_refused(http):
    problem(await http.post("/v1/sessions/refresh", json={"refresh_token": "rt_x"}), 401, "unauthenticated")


async def test_logging_out_ends_this_device_only(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    assert (await laptop.ask("DELETE", "/v1/sessions/current")).status_code == 204
    problem(await laptop.ask("GET", "/v1/me"), 401, "device_revoked")
    refresh = await http.post("/v1/sessions/refresh", json={"refresh_token": laptop.tokens["refresh_token"]})
    assert refresh.status_code == 401
    await phone.ok("GET", "/v1/me")


async def test_logging_out_everywhere_ends_all(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    assert (await phone.ask("DELETE", "/v1/sessions")).status_code == 204
    for device in (laptop, phone):
        problem(await device.ask("GET", "/v1/me"), 401, "device_revoked")


async def test_changing_the_password_logs_the_others_out(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    wrong = {"current": "wrong wrong", "new": "brand new secret"}
    problem(await laptop.ask("PUT", "/v1/me/password", wrong), 401, "wrong_credentials")
    right = {"current": PASSWORD, "new": "brand new secret"}
    assert (await laptop.ask("PUT", "/v1/me/password", right)).status_code == 204
    await laptop.ok("GET", "/v1/me")
    problem(await phone.ask("GET", "/v1/me"), 401, "device_revoked")
    old = await http.post("/v1/sessions", json={"username": laptop.username, "password": PASSWORD})
    problem(old, 401, "wrong_credentials")
    await log_in(http, laptop.username, password="brand new secret")


async def test_other_devices_may_be_kept(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    body = {"current": PASSWORD, "new": "brand new secret", "keep_other_devices": True}
    assert (await laptop.ask("PUT", "/v1/me/password", body)).status_code == 204
    await phone.ok("GET", "/v1/me")


async def test_devices_are_listed_named_and_revoked(http):
    laptop = await sign_up(http)
    phone = await laptop.another_device(device_name="phone")
    path = f"/v1/me/devices/{phone.device_id}"
    assert (await laptop.ask("PATCH", path, {"name": "old phone"})).status_code == 204
    listed = await laptop.ok("GET", "/v1/me/devices")
    assert listed["current"] == laptop.device_id
    assert {d["device_id"]: d["name"] for d in listed["devices"]}[phone.device_id] == "old phone"
    assert (await laptop.ask("DELETE", path)).status_code == 204
    problem(await phone.ask("GET", "/v1/me"), 401, "device_revoked")
    problem(await laptop.ask("DELETE", path), 404, "not_found")
    problem(await laptop.ask("PATCH", path, {"name": "x"}), 404, "not_found")


async def test_nobody_touches_another_persons_device(http):
    anna, ben = await sign_up(http), await sign_up(http)
    problem(await ben.ask("DELETE", f"/v1/me/devices/{anna.device_id}"), 404, "not_found")
    problem(await ben.ask("PATCH", f"/v1/me/devices/{anna.device_id}", {"name": "x"}), 404, "not_found")
    await anna.ok("GET", "/v1/me")
    taken = {"username": ben.username, "password": PASSWORD, "device_id": anna.device_id}
    problem(await http.post("/v1/sessions", json=taken), 409, "conflict")


async def test_a_device_keeps_its_id_over_log_ins_but_its_old_tokens_stay_dead(http):
    anna = await sign_up(http, device_id="my-laptop-" + str(time.time_ns()))
    again = await log_in(http, anna.username, device_id=anna.device_id)
    assert again.device_id == anna.device_id
    await again.ask("DELETE", "/v1/sessions/current")
    soon = await log_in(http, anna.username, device_id=anna.device_id)
    await soon.ok("GET", "/v1/me")
    problem(await anna.ask("GET", "/v1/me"), 401, "device_revoked")


async def test_no_token_a_bad_one_and_an_old_one(http):
    anna = await sign_up(http)
    bare = await http.get("/v1/me")
    problem(bare, 401, "unauthenticated")
    assert bare.headers["www-authenticate"] == "Bearer"
    for value in ("Basic abc", "Bearer", "Bearer a.b.c", "Bearer " + "x" * 9000):
        problem(await http.get("/v1/me", headers={"authorization": value}), 401, "unauthenticated")
    token = anna.tokens["access_token"]
    unsigned = jwt.encode(jwt.decode(token, options={"verify_signature": False}), None, "none")
    problem(await http.get("/v1/me", headers={"authorization": f"Bearer {unsigned}"}), 401, "unauthenticated")
    cut = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    problem(await http.get("/v1/me", headers={"authorization": f"Bearer {cut}"}), 401, "unauthenticated")


async def test_logging_in_takes_as_long_without_an_account(http: httpx.AsyncClient):
    anna = await sign_up(http)

    async def fastest(username: str) -> float:
        best = 9.0
        for _ in range(3):
            began = time.perf_counter()
            await http.post("/v1/sessions", json={"username": username, "password": "wrong wrong"})
            best = min(best, time.perf_counter() - began)
        return best

    there, nowhere = await fastest(anna.username), await fastest("surely-nobody")
    assert 0.4 < there / nowhere < 2.5
