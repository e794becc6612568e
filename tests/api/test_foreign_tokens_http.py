"""People of an issuer of their own, end to end: their issuer's token is all they need."""

import asyncio
import time

import httpx
import pytest
from support.api_calls import PASSWORD, problem
from support.api_pod import Pod, serving, settings_of
from test_issuers import JwksServer, token

from chatkernel.protocol import Limits
from chatkernel.settings import AuthSettings, Issuer, RateSettings


@pytest.fixture
async def http(valkey, tmp_path):
    async with JwksServer().running() as jwks:
        issuer = Issuer("https://id.example", jwks.url, "chat")
        auth = AuthSettings(issuers=[issuer], own_accounts=False)
        pod = await asyncio.to_thread(Pod(settings_of(tmp_path, valkey.url, auth=auth)).start)
        async with httpx.AsyncClient(base_url=pod.url, trust_env=False) as client:
            yield client
        await asyncio.to_thread(pod.stop)


def headers(device="device-1", **claims):
    return {"authorization": f"Bearer {token(**claims)}", "x-device-id": device}


async def test_a_person_and_their_device_are_there_at_first_sight(http):
    first = (await http.get("/v1/me", headers=headers())).json()
    assert (first["username"], first["display_name"]) == ("anna.o", "Anna")
    again = (await http.get("/v1/me", headers=headers(kid="ec"))).json()
    assert again["user_id"] == first["user_id"]
    other = (await http.get("/v1/me", headers=headers("device-2", sub="person-2"))).json()
    assert other["user_id"] != first["user_id"] and other["username"] != first["username"]
    devices = (await http.get("/v1/me/devices", headers=headers())).json()
    assert [d["device_id"] for d in devices["devices"]] == ["device-1"]


async def test_a_revoked_device_of_theirs_stays_revoked(http):
    mine, other = headers("device-1"), headers("device-2")
    assert (await http.get("/v1/me", headers=other)).status_code == 200
    assert (await http.get("/v1/me", headers=mine)).status_code == 200
    assert (await http.delete("/v1/me/devices/device-2", headers=mine)).status_code == 204
    problem(await http.get("/v1/me", headers=other), 401, "device_revoked")
    problem(await http.get("/v1/me", headers=headers("device-2", name="A")), 401, "device_revoked")


async def test_the_device_must_be_named_and_ones_own(http):
    bare = {"authorization": headers()["authorization"]}
    assert problem(await http.get("/v1/me", headers=bare), 422, "invalid_field")["field"] == "X-Device-Id"
    problem(await http.get("/v1/me", headers={**bare, "x-device-id": "a b c d"}), 422, "invalid_field")
    assert (await http.get("/v1/me", headers=headers("device-1"))).status_code == 200
    problem(await http.get("/v1/me", headers=headers("device-1", sub="person-2")), 409, "conflict")


async def test_they_erase_themselves_by_their_user_name_and_no_device_gets_in_again(http):
    me = (await http.get("/v1/me", headers=headers())).json()
    for wrong in ({}, {"password": ""}, {"confirm": "somebody"}, {"password": me["username"]}):
        answer = await http.post("/v1/me/erasure", json=wrong, headers=headers())
        problem(answer, 401, "wrong_credentials")
    answer = await http.post("/v1/me/erasure", json={"confirm": me["username"]}, headers=headers())
    assert answer.status_code == 202
    problem(await http.get("/v1/me", headers=headers()), 401, "device_revoked")
    problem(await http.get("/v1/me", headers=headers("device-2")), 403, "account_suspended")


async def test_the_token_of_somebody_erased_makes_no_new_account(valkey, tmp_path):
    async with JwksServer().running() as jwks:
        auth = AuthSettings(issuers=[Issuer("https://id.example", jwks.url, "chat")])
        async with serving(settings_of(tmp_path, valkey.url, auth=auth)) as (pod, http):
            me = (await http.get("/v1/me", headers=headers())).json()
            store = pod.services.store
            erasing = store.forget_person(me["user_id"], int(time.time() * 1000))
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(erasing, pod.loop))
            problem(await http.get("/v1/me", headers=headers("device-3")), 403, "account_erased")


async def test_each_algorithm_is_accepted(http):
    people = [(await http.get("/v1/me", headers=headers(kid=kid))).json() for kid in ("rsa", "ec", "ed")]
    assert people[0]["username"] == "anna.o" and people[0] == people[1] == people[2]


async def test_an_unknown_key_makes_the_pod_ask_the_issuer_again(valkey, tmp_path, monkeypatch):
    monkeypatch.setattr("apipod.issuers.REFETCH_INTERVAL_S", 0.0)
    async with JwksServer().running() as jwks:
        jwks.kids = ["rsa"]
        auth = AuthSettings(issuers=[Issuer("https://id.example", jwks.url, "chat")])
        async with serving(settings_of(tmp_path, valkey.url, auth=auth)) as (_, http):
            assert (await http.get("/v1/me", headers=headers())).status_code == 200
            problem(await http.get("/v1/me", headers=headers(kid="ed")), 401, "unauthenticated")
            before, jwks.kids = jwks.requests, ["ed"]
            assert (await http.get("/v1/me", headers=headers(kid="ed"))).status_code == 200
            assert jwks.requests == before + 1
            # What the issuer has withdrawn is no longer good, once a token is looked at anew.
            problem(await http.get("/v1/me", headers=headers(n=1)), 401, "unauthenticated")


async def test_their_devices_are_as_limited_as_anybodys(valkey, tmp_path):
    async with JwksServer().running() as jwks:
        auth = AuthSettings(issuers=[Issuer("https://id.example", jwks.url, "chat")])
        rates, limits = RateSettings(login_attempts=5, login_window_s=3600), Limits(devices_max=3)
        settings = settings_of(tmp_path, valkey.url, auth=auth, rates=rates, limits=limits)
        async with serving(settings) as (_, http):
            for number in range(5):
                assert (await http.get("/v1/me", headers=headers(f"device-{number}"))).status_code == 200
            last = headers("device-4")
            devices = (await http.get("/v1/me/devices", headers=last)).json()["devices"]
            assert {d["device_id"] for d in devices} == {"device-2", "device-3", "device-4"}
            problem(await http.get("/v1/me", headers=headers("device-0")), 401, "device_revoked")
            for number in range(5, 8):
                document = problem(
                    await http.get("/v1/me", headers=headers(f"device-{number}")), 429, "rate_limited"
                )
                assert (document["field"], document["limit"]) == ("login_attempts", 5)
            assert (await http.get("/v1/me", headers=last)).status_code == 200
            other = headers("device-9", sub="person-2")
            assert (await http.get("/v1/me", headers=other)).status_code == 200


async def test_many_first_requests_at_once_make_one_person(http):
    answers = await asyncio.gather(
        *(http.get("/v1/me", headers=headers(f"device-{n % 3}", n=n)) for n in range(12))
    )
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["user_id"] for a in answers}) == 1


async def test_bad_tokens_are_refused_and_own_accounts_are_off(http):
    problem(await http.get("/v1/me", headers=headers(aud="other")), 401, "unauthenticated")
    problem(await http.get("/v1/me", headers=headers(exp=1)), 401, "token_expired")
    body = {"username": "somebody", "password": PASSWORD}
    problem(await http.post("/v1/accounts", json=body), 403, "forbidden")
    problem(await http.post("/v1/sessions", json=body), 403, "forbidden")
