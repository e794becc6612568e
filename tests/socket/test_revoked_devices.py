"""A device that is logged out is out at once: its socket closes, and nothing of it works again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.api_calls import PASSWORD, Person, sign_up
from support.cluster import HEARTBEAT_S
from support.crew import Crew
from support.rawsocket import RawSocket, seat

from chatkernel.errors import Close

AT_ONCE_S = 0.7


async def revoked_by_another_device(laptop: Person, phone: Person) -> None:
    await laptop.ok("DELETE", f"/v1/me/devices/{phone.device_id}")


async def logs_out(_laptop: Person, phone: Person) -> None:
    await phone.ok("DELETE", "/v1/sessions/current")


async def logs_out_everywhere(laptop: Person, _phone: Person) -> None:
    await laptop.ok("DELETE", "/v1/sessions")


async def password_is_changed(laptop: Person, _phone: Person) -> None:
    await laptop.ok("PUT", "/v1/me/password", {"current": PASSWORD, "new": "another horse battery"})


async def refresh_token_is_stolen(_laptop: Person, phone: Person) -> None:
    body = {"refresh_token": phone.tokens["refresh_token"]}
    first = await phone.http.post("/v1/sessions/refresh", json=body)
    successor = {"refresh_token": first.json()["refresh_token"]}
    assert (await phone.http.post("/v1/sessions/refresh", json=successor)).status_code in (200, 201)
    # Its successor has been used: whoever shows it now is not who lost an answer.
    assert (await phone.http.post("/v1/sessions/refresh", json=body)).status_code == 401


@pytest.mark.parametrize(
    "end",
    [
        revoked_by_another_device,
        logs_out,
        logs_out_everywhere,
        password_is_changed,
        refresh_token_is_stolen,
    ],
)
async def test_its_socket_closes_at_once(
    some: Crew, end: Callable[[Person, Person], Awaitable[None]]
) -> None:
    (laptop,) = await some.people("ann")
    phone = await laptop.another_device()
    one, other = await some.cluster.ready()
    await some.socket(laptop, one)
    socket = await some.socket(phone, other)
    unused = await seat(phone, one)
    await end(laptop, phone)
    assert await socket.closed(AT_ONCE_S) == Close.DEVICE_REVOKED
    late = await some.raw(unused["url"])
    answer = await late.ask("hello", ticket=unused["ticket"])
    assert answer["code"] == "device_revoked"
    assert await late.closed() == Close.DEVICE_REVOKED


async def test_other_devices_stay(some: Crew) -> None:
    (laptop,) = await some.people("ann")
    phone = await laptop.another_device()
    stays, goes = await some.socket(laptop), await some.socket(phone)
    await revoked_by_another_device(laptop, phone)
    await goes.closed(AT_ONCE_S)
    assert (await stays.ask("ping"))["type"] == "pong"


async def test_a_revocation_that_meets_the_log_in(some: Crew) -> None:
    """Whichever comes first: no socket of the device outlives it."""
    (owner,) = await some.people("ann")
    phones = await asyncio.gather(*(owner.another_device() for _ in range(12)))

    async def meet(phone: Person, delay_s: float) -> float | None:
        """How long the socket lived after the revocation was answered; None when it never came to be."""
        taken = await seat(phone)

        async def connect() -> RawSocket:
            socket = await some.raw(taken["url"])
            await socket.say("hello", id="h", ticket=taken["ticket"])
            return socket

        async def revoke() -> None:
            await asyncio.sleep(delay_s)
            await owner.ok("DELETE", f"/v1/me/devices/{phone.device_id}")

        socket, _ = await asyncio.gather(connect(), revoke())
        revoked_at = asyncio.get_running_loop().time()
        await socket.closed(HEARTBEAT_S * 3)
        return asyncio.get_running_loop().time() - revoked_at

    lived = await asyncio.gather(*(meet(phone, n * 0.003) for n, phone in enumerate(phones)))
    assert max(lived) < AT_ONCE_S, lived


async def test_what_a_revoked_device_still_sends_is_not_taken(some: Crew) -> None:
    ann, bob = await some.people("ann", "bob")
    channel = await some.group(ann, bob)
    phone = await sign_in_again(some, ann)
    socket = await some.socket(phone)
    # It never answers the close frame and goes on writing.
    socket.connection.transport.pause_reading()
    await ann.ok("DELETE", f"/v1/me/devices/{phone.device_id}")
    await asyncio.sleep(0.3)
    for n in range(5):
        try:
            await socket.say("send", channel_id=channel, client_msg_id=f"late{n}", text="late")
        except Exception:
            break
    await asyncio.sleep(0.3)
    history = (await bob.frame("history", channel_id=channel))["frames"][0]["items"]
    assert [item for item in history if item["event"].get("text") == "late"] == []


async def sign_in_again(some: Crew, person: Person) -> Person:
    return await person.another_device()


async def test_sign_up_gives_a_device_that_may_connect(some: Crew) -> None:
    person = await sign_up(some.http, "new")
    assert (await (await some.socket(person)).ask("ping"))["type"] == "pong"
