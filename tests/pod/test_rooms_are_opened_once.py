"""A room is opened by the pod, for everyone who asked, and goes again when nobody came in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from support.cluster import eventually
from support.one_pod import Elsewhere, OnePod

import chatpod.rooms as module
from chatkernel.errors import ChatError, Code

ROOM = "local_g1"


async def turns_until(done: Callable[[], bool]) -> None:
    async def look() -> bool:
        return done()

    await eventually(look, step_s=0.005)


async def test_who_goes_away_in_the_middle_does_not_take_the_opening_from_others(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    gate = asyncio.Event()
    pod.store.before("heads", gate.wait)
    own, _ = pod.client("u_own")
    eve, wire = pod.client("u_eve")
    owns = asyncio.create_task(pod.opener.open(own, "h", {}))
    await turns_until(lambda: "heads" in pod.store.calls)
    eves = asyncio.create_task(pod.opener.open(eve, "h", {}))
    await turns_until(lambda: pod.store.calls.count("grants_of") == 2)
    owns.cancel()
    pod.hub.deregister(own)
    await asyncio.wait({owns})
    gate.set()
    await asyncio.wait_for(eves, 2)
    await elsewhere.say(ROOM, "hello eve")
    assert wire.texts(ROOM) == ["hello eve"]
    assert pod.store.calls.count("heads") == 1


async def test_a_room_that_nobody_came_into_is_dropped(
    pod: OnePod, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNUSED_S", 0.05)
    await elsewhere.group(ROOM, "u_own", "u_eve")
    gate = asyncio.Event()
    pod.store.before("heads", gate.wait)
    clients = [pod.client(user)[0] for user in ("u_own", "u_eve")]
    tasks = [asyncio.create_task(pod.opener.open(client, "h", {})) for client in clients]
    await turns_until(lambda: "heads" in pod.store.calls and ("channels", ROOM) in pod.routes.wanted)
    for task, client in zip(tasks, clients, strict=True):
        task.cancel()
        pod.hub.deregister(client)
    gate.set()
    await asyncio.wait(tasks)
    await turns_until(lambda: not pod.hub.rooms and not pod.routes.wanted)


async def test_rooms_go_with_a_client_that_went_during_its_catch_up(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")
    await elsewhere.say(ROOM, "m0")
    reading = asyncio.Event()

    async def reads_for_ever() -> None:
        reading.set()
        await asyncio.Event().wait()

    pod.store.before("events", reads_for_ever)
    eve, _ = pod.client("u_eve")
    task = asyncio.create_task(pod.opener.open(eve, "h", {ROOM: 1}))
    await asyncio.wait_for(reading.wait(), 2)
    pod.hub.deregister(eve)
    assert ROOM in pod.hub.rooms  # it is held for her until the catch-up has ended
    task.cancel()
    await asyncio.wait({task})
    await turns_until(lambda: not pod.hub.rooms and not pod.routes.wanted)


async def test_an_opening_that_failed_is_begun_again_by_the_next(pod: OnePod, elsewhere: Elsewhere) -> None:
    await elsewhere.group(ROOM, "u_own", "u_eve")

    async def away() -> None:
        raise ChatError(Code.STORAGE_UNAVAILABLE)

    pod.store.before("heads", away)
    own, _ = pod.client("u_own")
    with pytest.raises(ChatError):
        await pod.opener.open(own, "h", {})
    eve, wire = await pod.came("u_eve", {ROOM: 0})
    assert eve.rooms == {ROOM} and len(wire.events(ROOM)) == 1


async def test_somebody_added_while_a_room_opens_for_another_comes_into_it(
    pod: OnePod, elsewhere: Elsewhere
) -> None:
    """The bus brings the joining before the head is known here, and the head that is read is after it."""
    await elsewhere.group(ROOM, "u_own")
    bob, bobs = await pod.came("u_bob")
    pod.store.before("heads", lambda: elsewhere.join(ROOM, "u_bob"))
    own, owns = await pod.came("u_own", {ROOM: 1})
    await pod.heal()
    await elsewhere.say(ROOM, "hello bob")
    for client, wire in ((own, owns), (bob, bobs)):
        assert client.rooms == {ROOM}
        assert [event.seq for event in wire.events(ROOM)] == [2, 3]


async def test_a_person_who_goes_and_comes_while_redis_hangs_is_routed(
    pod: OnePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes of the same route are under way; each ends without a fault."""
    monkeypatch.setattr(module, "ROUTES_WAIT_S", 0.02)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    hangs, add = asyncio.Event(), pod.routes.add

    async def slow_add(**names: list[str]) -> None:
        await hangs.wait()
        await add(**names)

    pod.routes.add = slow_add  # type: ignore[method-assign,assignment]
    eve, _ = pod.client("u_eve")
    await pod.rooms.user_came("u_eve")
    pod.hub.deregister(eve)
    pod.rooms.user_gone("u_eve")
    await turns_until(lambda: "u_eve" not in pod.rooms._routed)
    pod.client("u_eve")
    await pod.rooms.user_came("u_eve")
    hangs.set()
    await turns_until(lambda: not pod.rooms._tasks)
    assert pod.routes.wanted == {("users", "u_eve")}
    assert not pod.rooms._arriving and not faults
