"""A log-in and a change of the password at the same moment: the new password stands, and no old one's log-in does."""

import asyncio
import threading
from contextlib import contextmanager

from support.api_calls import PASSWORD, log_in, problem, sign_up

NEW = "brand new secret"


class Held:
    """One call of a method of the pod's is held when it has done its work, until the test lets it go on."""

    def __init__(self):
        self._reached, self._go_on = threading.Event(), threading.Event()

    async def reached(self):
        assert await asyncio.to_thread(self._reached.wait, 10)

    def go_on(self):
        self._go_on.set()

    async def hold(self):
        first = not self._reached.is_set()
        self._reached.set()
        if first:
            await asyncio.to_thread(self._go_on.wait, 10)


@contextmanager
def held(monkeypatch, target, name):
    holder, real = Held(), getattr(target, name)

    async def call(*args, **kwargs):
        answer = await real(*args, **kwargs)
        await holder.hold()
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(target, name, call)
        yield holder


def logging_in(http, person, password=PASSWORD):
    body = {"username": person.username, "password": password}
    return asyncio.create_task(http.post("/v1/sessions", json=body))


async def change(person):
    response = await person.ask("PUT", "/v1/me/password", {"current": PASSWORD, "new": NEW})
    assert response.status_code == 204


async def only_device(person):
    devices = (await person.ok("GET", "/v1/me/devices"))["devices"]
    return [device["device_id"] for device in devices] == [person.device_id]


async def only_the_new_password_logs_in(http, anna):
    """And no log-in with the old one has left a device."""
    assert await only_device(anna)
    problem(await logging_in(http, anna), 401, "wrong_credentials")
    await log_in(http, anna.username, password=NEW)


async def test_a_log_in_verified_just_before_the_change_leaves_no_device(http, pod, monkeypatch):
    anna = await sign_up(http)
    with held(monkeypatch, pod.services.passwords, "verify") as verified:
        late = logging_in(http, anna)
        await verified.reached()
        await change(anna)
        verified.go_on()
        problem(await late, 401, "wrong_credentials")
    await only_the_new_password_logs_in(http, anna)


async def test_a_device_added_before_the_change_is_logged_out_by_it(http, pod, monkeypatch):
    anna = await sign_up(http)
    with held(monkeypatch, pod.services.store, "add_device") as added:
        early = logging_in(http, anna)
        await added.reached()
        await change(anna)
        added.go_on()
        tokens = (await early).json()
    dead = await http.get("/v1/me", headers={"authorization": f"Bearer {tokens['access_token']}"})
    problem(dead, 401, "device_revoked")
    renewed = await http.post("/v1/sessions/refresh", json={"refresh_token": tokens["refresh_token"]})
    problem(renewed, 401, "device_revoked")
    assert await only_device(anna)


async def test_a_hash_made_anew_does_not_bring_the_old_password_back(http, pod, monkeypatch):
    anna = await sign_up(http)
    with held(monkeypatch, pod.services.passwords, "hash") as hashed:
        with monkeypatch.context() as patch:
            patch.setattr(pod.services.passwords, "outdated", lambda stored: True)
            late = logging_in(http, anna)
            await hashed.reached()
        await change(anna)
        hashed.go_on()
        problem(await late, 401, "wrong_credentials")
    await only_the_new_password_logs_in(http, anna)


async def test_a_hash_made_anew_by_another_log_in_refuses_nobody(http, pod, monkeypatch):
    anna = await sign_up(http)
    with held(monkeypatch, pod.services.passwords, "verify") as verified:
        late = logging_in(http, anna)
        await verified.reached()
        with monkeypatch.context() as patch:
            patch.setattr(pod.services.passwords, "outdated", lambda stored: True)
            assert (await logging_in(http, anna)).status_code == 201
        verified.go_on()
        assert (await late).status_code == 201


async def test_of_two_changes_at_once_one_is_told(http):
    anna = await sign_up(http)
    phone = await anna.another_device()
    answers = await asyncio.gather(
        *(
            device.ask("PUT", "/v1/me/password", {"current": PASSWORD, "new": f"{NEW} {number}"})
            for number, device in enumerate((anna, phone))
        )
    )
    won = [number for number, answer in enumerate(answers) if answer.status_code == 204]
    assert len(won) == 1, [answer.text for answer in answers]
    await log_in(http, anna.username, password=f"{NEW} {won[0]}")
