"""What HTTP changes reaches the person's chat pods at once: heard on a real bus, as a chat pod would."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from support.api_calls import problem, sign_up
from support.valkey import redis_client

from chatkernel.bus import BlocksChanged, Bus, BusGap, PresenceChange, Revoked, UserFrame
from chatkernel.keys import Keys
from chatkernel.presence import Audience, PresenceStore
from chatkernel.routes import Routes


class Ear:
    """A pod that has people's routes and keeps what it hears."""

    def __init__(self, redis, keys):
        self.routes = Routes(redis, keys, "ear")
        self.bus = Bus(redis, keys, self.routes, "ear")
        self.presence = None
        self.heard = []
        self._new = asyncio.Event()

    async def listen_for(self, *people):
        await self.bus.open()
        await self.routes.add(users=[person.id for person in people])

    async def run(self):
        async for item in self.bus.read(asyncio.Event()):
            self.heard += [] if isinstance(item, BusGap) else item
            self._new.set()

    async def hears(self, kind, wanted=lambda envelope: True):
        async with asyncio.timeout(5):
            while True:
                for envelope in self.heard:
                    if isinstance(envelope, kind) and wanted(envelope):
                        return envelope
                self._new.clear()
                await self._new.wait()

    async def hears_notice(self, person, topic):
        def fits(envelope):
            frame = json.loads(envelope.frame)
            return person.id in envelope.user_ids and (frame["type"], frame["topic"]) == ("notice", topic)

        return json.loads((await self.hears(UserFrame, fits)).frame)


@asynccontextmanager
async def ear_of(pod, valkey):
    async with redis_client(valkey.url) as redis:
        keys = Keys(pod.settings.key_prefix, pod.settings.cluster)
        ear = Ear(redis, keys)
        ear.presence = PresenceStore(redis, keys, pod.settings.presence)
        task = None
        try:
            await ear.bus.open()
            task = asyncio.create_task(ear.run())
            yield ear
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await ear.routes.reap("ear")


@pytest.fixture
async def ear(pod, valkey):
    async with ear_of(pod, valkey) as made:
        yield made


async def test_a_revoked_device_is_closed_everywhere_and_leaves_presence_at_once(http, ear):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    await ear.listen_for(laptop)
    await ear.presence.beat([(laptop.id, phone.device_id)])
    await ear.presence.set_audience(laptop.id, Audience([], [laptop.id]))
    await laptop.ok("DELETE", f"/v1/me/devices/{phone.device_id}")
    problem(await phone.ask("GET", "/v1/me"), 401, "device_revoked")
    revoked = await ear.hears(Revoked)
    assert (revoked.user_id, revoked.device_ids) == (laptop.id, [phone.device_id])
    change = await ear.hears(PresenceChange)
    assert json.loads(change.frame)["entries"][0]["state"] == "offline"
    (state,) = await ear.presence.states([laptop.id])
    assert state.state == "offline" and state.last_active_at


async def test_logging_one_of_two_out_leaves_the_person_online(http, ear):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    await ear.listen_for(laptop)
    await ear.presence.beat([(laptop.id, phone.device_id), (laptop.id, laptop.device_id)])
    await phone.ok("DELETE", "/v1/sessions/current")
    await ear.hears(Revoked)
    (state,) = await ear.presence.states([laptop.id])
    assert state.state == "online"


async def test_a_password_change_and_a_reused_refresh_token_close_sockets(http, ear):
    laptop = await sign_up(http)
    phone = await laptop.another_device()
    await ear.listen_for(laptop)
    body = {"current": "correct horse battery", "new": "brand new secret"}
    await laptop.ok("PUT", "/v1/me/password", body)
    assert (await ear.hears(Revoked)).device_ids == [phone.device_id]
    refresh = {"refresh_token": laptop.tokens["refresh_token"]}
    answer = await http.post("/v1/sessions/refresh", json=refresh)
    renewed = {"refresh_token": answer.json()["refresh_token"]}
    assert (await http.post("/v1/sessions/refresh", json=renewed)).status_code == 200
    assert (await http.post("/v1/sessions/refresh", json=refresh)).status_code == 401
    await ear.hears(Revoked, lambda envelope: envelope.device_ids == [laptop.device_id])


async def test_own_devices_and_the_other_person_are_noticed(http, ear):
    anna, ben = await sign_up(http), await sign_up(http)
    await ear.listen_for(anna, ben)
    await anna.ok("PUT", f"/v1/friends/{ben.id}")
    assert (await ear.hears_notice(ben, "friends"))["user_id"] == anna.id
    assert (await ear.hears_notice(anna, "friends"))["user_id"] == ben.id
    await anna.ok("PUT", "/v1/me/settings", {"values": {}})
    await ear.hears_notice(anna, "settings")
    await anna.ok("PATCH", "/v1/me", {"about": "x"})
    await ear.hears_notice(anna, "profile")
    await anna.another_device()
    await ear.hears_notice(anna, "devices")
    channel = (await anna.ok("POST", "/v1/channels", {"kind": "direct", "user_id": ben.id}))["channel_id"]
    await anna.ok("PATCH", f"/v1/channels/{channel}/me", {"pinned": True})
    assert (await ear.hears_notice(anna, "conversation"))["channel_id"] == channel


async def test_only_what_changes_something_is_told_to_the_other_person(http, ear):
    anna, ben, marker = [await sign_up(http) for _ in range(3)]
    await ear.listen_for(anna, ben, marker)

    def told(person):
        return [
            json.loads(envelope.frame)["user_id"]
            for envelope in ear.heard
            if isinstance(envelope, UserFrame)
            and person.id in envelope.user_ids
            and json.loads(envelope.frame)["topic"] == "friends"
        ]

    for _ in range(3):
        await ben.ok("PUT", f"/v1/friends/{anna.id}")
    for _ in range(3):
        await anna.ok("PUT", f"/v1/blocks/{ben.id}")
    for _ in range(3):
        await ben.ok("DELETE", f"/v1/friends/{anna.id}")
        await ben.ok("PUT", f"/v1/blocks/{anna.id}")
        await ben.ok("DELETE", f"/v1/blocks/{anna.id}")
        problem(await ben.ask("PUT", f"/v1/friends/{anna.id}"), 403, "blocked")
    # What one pod tells comes in order: when the last thing is heard, so is all before it.
    await marker.ok("PUT", f"/v1/friends/{anna.id}")
    await ear.hears(UserFrame, lambda e: anna.id in e.user_ids and marker.id in e.frame.decode())
    # The request, her own block; and then the marker.
    assert told(anna) == [ben.id, ben.id, marker.id]
    assert told(ben) == [anna.id, anna.id] + [anna.id] * 6


async def test_a_block_is_told_to_pods_and_not_to_a_stranger(http, ear):
    anna, ben = await sign_up(http), await sign_up(http)
    await ear.listen_for(anna, ben)
    await anna.ok("PUT", f"/v1/blocks/{ben.id}")
    assert set((await ear.hears(BlocksChanged)).user_ids) == {anna.id, ben.id}
    await ear.hears_notice(anna, "friends")
    told_ben = [e for e in ear.heard if isinstance(e, UserFrame) and ben.id in e.user_ids]
    assert not [e for e in told_ben if json.loads(e.frame)["topic"] == "friends"]
