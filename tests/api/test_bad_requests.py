"""Whatever arrives, the answer is a problem document and the server lives."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import pytest
from support.api_calls import PASSWORD, log_in, problem, sign_up
from support.api_pod import Pod, serving, settings_of

from chatkernel.settings import AuthSettings, RateSettings

BODY_MAX = 256 * 1024


async def raw(pod, data):
    """Send bytes, read what comes until the server closes or is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.settings.port)
    writer.write(data)
    await writer.drain()
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        ),
        0,
    )
    body = await reader.readexactly(length)
    writer.close()
    return head, body


async def test_unknown_paths_and_methods(http):
    problem(await http.get("/nowhere"), 404, "not_found")
    problem(await http.get("/v1/me/"), 404, "not_found")
    wrong = await http.put("/v1/seats")
    problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "OPTIONS, POST"
    problem(await http.request("TRACE", "/v1/me"), 405, "method_not_allowed")
    assert (await http.options("/v1/me")).headers["allow"] == "GET, HEAD, OPTIONS, PATCH"
    problem(await http.post("/openapi.json"), 405, "method_not_allowed")
    head = await http.head("/healthz")
    assert head.status_code == 200 and head.content == b""


async def test_bodies_that_are_too_large_are_refused_unread(http, pod):
    large = await http.post("/v1/accounts", content=b"x" * (BODY_MAX + 1))
    document = problem(large, 413, "too_large")
    assert document["limit"] == BODY_MAX and large.headers["connection"] == "close"

    async def chunks():
        for _ in range(BODY_MAX // 4096 + 2):
            yield b"x" * 4096

    problem(await http.post("/v1/accounts", content=chunks()), 413, "too_large")
    head, body = await raw(
        pod, b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    )
    assert b" 413 " in head and json.loads(body)["code"] == "too_large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe{}", 400, "malformed"),
        (b'{"username": "\xff"}', 400, "malformed"),
        (b"[]", 422, "invalid_field"),
        (b"null", 422, "invalid_field"),
        (b"[" * 200_000, 422, "invalid_field"),
        (b'{"a":' * 40_000, 422, "invalid_field"),
        (b'{"username": "\\ud800aa", "password": "12345678"}', 400, "malformed"),
    ],
)
async def test_bodies_that_are_not_what_they_should_be(http, body, status, code):
    problem(await http.post("/v1/accounts", content=body), status, code)


async def test_unknown_fields_are_ignored(http):
    assert (await sign_up(http, hobbies=["chess"])).id


async def test_odd_ids_in_paths_are_not_found(http):
    anna = await sign_up(http)
    for odd in ("%00", "%ff%fe", "x" * 500, "..%2f..", "%F0%9F%98%80", "a%0ab"):
        response = await anna.ask("GET", f"/v1/channels/{odd}")
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"


async def test_broken_http_does_not_kill_the_server(http, pod):
    for data in (
        b"\x16\x03\x01\x02\x00\x01" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/seats HTTP/1.1\r\n\x00\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", pod.settings.port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(4096), 5)
        assert b"Traceback" not in answer
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.settings.port)
    writer.write(b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    await writer.drain()
    writer.close()
    assert (await http.get("/healthz")).status_code == 200


async def test_a_fault_of_our_own_is_a_problem_without_a_traceback(http, pod, caplog):
    anna = await sign_up(http)
    store, broken = pod.services.store, RuntimeError("secret inside")

    async def fails(*_):
        raise broken

    store.friends, before = fails, store.friends
    try:
        answer = await anna.ask("GET", "/v1/friends")
    finally:
        store.friends = before
    document = problem(answer, 500, "internal")
    assert document["retryable"] and "secret" not in answer.text
    assert any(record.exc_info and record.exc_info[1] is broken for record in caplog.records)


async def test_only_allowed_origins_get_in(valkey, tmp_path):
    auth = AuthSettings(allowed_origins=["https://app.example"])
    pod = Pod(settings_of(tmp_path, valkey.url, auth=auth)).start()
    try:
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as http:
            for origin in ("https://evil.example", "null", "https://app.example.evil", "http://app.example"):
                refused = await http.get("/v1/me", headers={"origin": origin})
                problem(refused, 403, "origin_not_allowed")
                assert "access-control-allow-origin" not in refused.headers
            allowed = {"origin": "https://app.example"}
            answer = await http.get("/v1/me", headers=allowed)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert answer.headers["vary"] == "Origin"
            asked = {**allowed, "access-control-request-method": "PUT"}
            preflight = await http.options("/v1/me/settings", headers=asked)
            assert preflight.status_code == 204
            assert "PUT" in preflight.headers["access-control-allow-methods"]
            assert "If-Match" in preflight.headers["access-control-allow-headers"]
            # Its own address is no exception: a chat pod would not know it.
            problem(await http.get("/healthz", headers={"origin": pod.url}), 403, "origin_not_allowed")
    finally:
        pod.stop()


@pytest.fixture
async def strict(valkey, tmp_path):
    """A pod with small limits."""
    rates = RateSettings(
        login_attempts=4, login_window_s=60, requests_per_s=2, requests_burst=12, signups_per_address=3
    )
    pod = Pod(settings_of(tmp_path, valkey.url, rates=rates)).start()
    async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as http:
        yield http
    pod.stop()


def limited(response, field):
    document = problem(response, 429, "rate_limited")
    assert document["retryable"] and document["retry_after_s"] > 0
    assert document["field"] == field and document["limit"]
    assert int(response.headers["retry-after"]) >= document["retry_after_s"]


async def test_too_many_requests_of_a_device_wait(strict):
    anna = await sign_up(strict)
    answers = [await anna.ask("GET", "/v1/me") for _ in range(20)]
    assert [a.status_code for a in answers[:12]] == [200] * 12
    limited(answers[-1], "requests_per_s")
    assert (await strict.get("/healthz")).status_code == 200


async def test_too_many_requests_of_an_address_wait(strict):
    answers = [await strict.get("/v1/me", headers={"authorization": "Bearer x.y.z"}) for _ in range(20)]
    assert [a.status_code for a in answers[:12]] == [401] * 12
    limited(answers[-1], "requests_per_s")


async def test_too_many_sign_ups_of_an_address_wait(strict):
    for _ in range(3):
        await sign_up(strict)
    limited(
        await strict.post("/v1/accounts", json={"username": "one-more", "password": PASSWORD}),
        "signups_per_address",
    )


async def test_wrong_passwords_are_slowed_even_for_the_right_one(strict):
    anna = await sign_up(strict)
    wrong = {"username": anna.username, "password": "wrong wrong"}
    answers = await asyncio.gather(*(strict.post("/v1/sessions", json=wrong) for _ in range(8)))
    assert sorted(a.status_code for a in answers) == [401] * 4 + [429] * 4
    limited(
        await strict.post("/v1/sessions", json={"username": anna.username, "password": PASSWORD}),
        "login_attempts",
    )


async def test_devices_of_a_person_have_a_limit_together(valkey, tmp_path):
    rates = RateSettings(user_requests_per_s=1, user_requests_burst=12)
    async with serving(settings_of(tmp_path, valkey.url, rates=rates)) as (_, http):
        anna, ben = await sign_up(http), await sign_up(http)
        devices = [anna, *[await anna.another_device() for _ in range(3)]]
        answers = [await device.ask("GET", "/v1/me") for _ in range(5) for device in devices]
        assert [a.status_code for a in answers[:12]] == [200] * 12
        limited(answers[-1], "user_requests_per_s")
        await ben.ok("GET", "/v1/me")


@asynccontextmanager
async def from_address(pod, address):
    """A client that comes from another address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    async with httpx.AsyncClient(base_url=pod.url, transport=transport, timeout=30) as client:
        yield client


@pytest.fixture
async def slowing(valkey, tmp_path):
    """A pod that allows four wrong passwords."""
    rates = RateSettings(login_attempts=4, login_window_s=3600)
    async with serving(settings_of(tmp_path, valkey.url, rates=rates)) as (pod, _):
        yield pod


async def test_wrong_passwords_for_one_account_are_slowed_wherever_they_come_from(slowing):
    async with from_address(slowing, "127.0.0.1") as here, from_address(slowing, "127.0.0.2") as there:
        anna, ben = await sign_up(here), await sign_up(here)
        wrong = {"username": anna.username, "password": "wrong wrong"}
        answers = [await here.post("/v1/sessions", json=wrong) for _ in range(4)]
        assert [a.status_code for a in answers] == [401] * 4
        # Nothing has come from this address yet: it is the account that is slowed, and only this one.
        limited(await there.post("/v1/sessions", json=wrong), "login_attempts")
        await log_in(there, ben.username)


async def test_wrong_passwords_from_one_address_are_slowed_whosever_they_are(slowing):
    async with from_address(slowing, "127.0.0.1") as here, from_address(slowing, "127.0.0.2") as there:
        people = [await sign_up(here) for _ in range(5)]
        for person in people[:4]:
            wrong = {"username": person.username, "password": "wrong wrong"}
            problem(await here.post("/v1/sessions", json=wrong), 401, "wrong_credentials")
        # Nobody has tried this account yet: it is the address that is slowed, and only this one.
        right = {"username": people[4].username, "password": PASSWORD}
        limited(await here.post("/v1/sessions", json=right), "login_attempts")
        await log_in(there, people[4].username)


async def test_right_passwords_are_never_slowed(strict):
    anna = await sign_up(strict)
    right = {"username": anna.username, "password": PASSWORD}
    answers = await asyncio.gather(*(strict.post("/v1/sessions", json=right) for _ in range(10)))
    assert {a.status_code for a in answers} == {201}


async def test_sends_have_a_limit_of_their_own(valkey, tmp_path):
    from chatkernel.protocol import Limits

    pod = Pod(settings_of(tmp_path, valkey.url, limits=Limits(sends_per_s=1, sends_burst=3))).start()
    try:
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as http:
            anna = await sign_up(http)
            channel = (await anna.ok("POST", "/v1/channels", {"kind": "group", "name": "g"}))["channel_id"]
            frame = {"type": "send", "id": "f", "channel_id": channel, "text": "x"}
            answers = [
                await anna.ask("POST", "/v1/frames", {**frame, "client_msg_id": str(n)}) for n in range(5)
            ]
            assert [a.status_code for a in answers[:3]] == [200] * 3
            limited(answers[-1], "sends_per_s")
            assert answers[-1].json()["frames"][0]["retry_after_ms"] > 0
    finally:
        pod.stop()
