"""What ends by itself or by the operator's hand: tokens, signing keys, devices that are too many, accounts."""

import msgspec
from support.api_calls import PASSWORD, Person, log_in, problem, sign_up
from support.api_pod import serving, settings_of
from support.valkey import eventually, free_port

from chatkernel.protocol import Limits
from chatkernel.settings import AuthSettings, SecretFile, SigningKey
from chatkernel.storage.open import open_store

OLD, NEW = SigningKey("k-old", "o" * 40), SigningKey("k-new", "n" * 40)


async def test_an_access_token_expires_and_its_refresh_token_gives_another(valkey, tmp_path):
    auth = AuthSettings(access_token_ttl_s=1)
    async with serving(settings_of(tmp_path, valkey.url, auth=auth)) as (_, http):
        anna = await sign_up(http)

        async def expired():
            return (await anna.ask("GET", "/v1/me")).status_code == 401

        assert not await expired()
        await eventually(expired)
        answer = await anna.ask("GET", "/v1/me")
        problem(answer, 401, "token_expired")
        assert answer.headers["www-authenticate"] == "Bearer"
        body = {"refresh_token": anna.tokens["refresh_token"]}
        anna.tokens = (await http.post("/v1/sessions/refresh", json=body)).json()
        await anna.ok("GET", "/v1/me")


async def test_signing_keys_are_changed_without_logging_anybody_out(valkey, tmp_path):
    settings = settings_of(tmp_path, valkey.url)

    def of(keys):
        moved = msgspec.structs.replace(settings, port=free_port())
        return serving(moved, SecretFile(list(keys)))

    async with of([OLD]) as (_, http):
        anna = await sign_up(http)
    async with of([NEW, OLD]) as (_, http):
        await Person(http, anna.username, anna.tokens).ok("GET", "/v1/me")
        renewed = await log_in(http, anna.username)
    async with of([NEW]) as (_, http):
        # Signed by the first key of the list; the other verifies, until it is taken out.
        await Person(http, anna.username, renewed.tokens).ok("GET", "/v1/me")
        problem(await Person(http, anna.username, anna.tokens).ask("GET", "/v1/me"), 401, "unauthenticated")


async def test_of_too_many_devices_the_one_unseen_for_longest_is_logged_out(valkey, tmp_path):
    async with serving(settings_of(tmp_path, valkey.url, limits=Limits(devices_max=3))) as (_, http):
        first = await sign_up(http)
        second, third = [await first.another_device() for _ in range(2)]
        body = {"refresh_token": first.tokens["refresh_token"]}
        first.tokens = (await http.post("/v1/sessions/refresh", json=body)).json()
        fourth = await first.another_device()
        problem(await second.ask("GET", "/v1/me"), 401, "device_revoked")
        listed = (await fourth.ok("GET", "/v1/me/devices"))["devices"]
        assert {d["device_id"] for d in listed} == {p.device_id for p in (first, third, fourth)}


async def test_a_suspended_account_is_told_so(http, pod):
    anna = await sign_up(http)
    store = await open_store(pod.settings.store_url)
    await store.set_suspended(anna.id, True)

    async def refused():
        return (await anna.ask("GET", "/v1/me")).status_code == 403

    await eventually(refused)
    problem(await anna.ask("GET", "/v1/me"), 403, "account_suspended")
    right = {"username": anna.username, "password": PASSWORD}
    problem(await http.post("/v1/sessions", json=right), 403, "account_suspended")
    # Who does not know the password learns nothing.
    wrong = await http.post("/v1/sessions", json={**right, "password": "wrong wrong"})
    problem(wrong, 401, "wrong_credentials")
    await store.set_suspended(anna.id, False)
    await store.aclose()
    await anna.ok("GET", "/v1/me")
