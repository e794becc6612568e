"""A primary that has just been elected, or was superseded and does not know it, shows less than clients were told. No
cursor is called one of another log for that: only what the store says of now decides."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from support.live import live
from support.mongo.faults import lags
from support.mongo.scripted import scripted_server
from support.mongo.topology import ReplicaSet, replica_set
from support.one_pod import Elsewhere, OnePod, Wire

from chatkernel.errors import ChatError, Code
from chatkernel.protocol import Page, Position, Resync, Sync
from chatkernel.reading import Reading
from chatkernel.storage.mongo.store import MongoStore, open_mongo

ROOM, OTHER = "local_g1", "local_g2"
TOLD = 4
"""Events of the room that were acked: created, and three messages."""
SHOWN = 2
"""Of these, what the primary shows."""


@pytest.fixture
async def deployment() -> AsyncIterator[ReplicaSet]:
    async with replica_set() as running:
        yield running


@pytest.fixture
async def store(deployment: ReplicaSet) -> AsyncIterator[MongoStore]:
    opened = await open_mongo(f"{deployment.url}&timeoutMS=500")
    await opened.ensure_schema()
    yield opened
    await opened.aclose()


@pytest.fixture
async def told(pod: OnePod, elsewhere: Elsewhere) -> Position:
    """What a client that has everything stands at."""
    for channel in (ROOM, OTHER):
        await elsewhere.group(channel, "u_own", "u_eve")
    _, wire = await pod.came("u_eve")
    for number in range(TOLD - 1):
        await elsewhere.say(ROOM, f"m{number}")
    last = wire.events(ROOM)[-1]
    assert last.seq == TOLD
    return Position(last.seq, last.message_id)


def steps_down(deployment: ReplicaSet, *, superseded: bool = False) -> None:
    deployment.step_down()
    for member in deployment.members:
        member.on("find", lags(SHOWN, superseded=superseded))


def caught_up(deployment: ReplicaSet) -> None:
    for member in deployment.members:
        member.hooks.clear()


def loses_its_end(deployment: ReplicaSet) -> None:
    """Put back to a copy that was made before."""
    deployment.store.collection("chat.events").delete({"seq": {"$gt": SHOWN}}, limit=0)


def resets(wire: Wire) -> list[Resync]:
    return [frame for frame in wire.frames if isinstance(frame, Resync)]


async def compares(pod: OnePod) -> None:
    """As every heartbeat does."""
    pod.looked_at += [ROOM, OTHER]
    await pod.heal()


async def synced(store: MongoStore, told: Position) -> list[Page | Resync]:
    return await Reading(store, store, live()).sync_once("u_eve", Sync("s", {ROOM: told}))


async def test_who_comes_after_an_election_is_not_told_to_begin_anew(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, told: Position
) -> None:
    steps_down(deployment)
    assert (await store.heads([ROOM]))[ROOM].seq == SHOWN
    late = OnePod(store)
    _, wire = await late.came("u_eve", {ROOM: told, OTHER: 1})
    assert not resets(wire)
    assert {page.heads[ROOM].seq for page in wire.pages if ROOM in page.heads} == {TOLD}
    caught_up(deployment)
    await compares(late)
    assert not resets(wire)
    assert late.hub.rooms[ROOM].last_seq == TOLD


async def test_who_syncs_is_never_led_back(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, told: Position
) -> None:
    steps_down(deployment)
    [page] = await synced(store, told)
    assert isinstance(page, Page) and page.heads[ROOM].seq == TOLD and not page.events


async def test_nor_are_those_who_are_there(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, elsewhere: Elsewhere, told: Position
) -> None:
    _, wire = await pod.came("u_eve", {ROOM: told})
    await compares(pod)
    steps_down(deployment)
    await compares(pod)
    caught_up(deployment)
    await compares(pod)
    assert not resets(wire)
    await elsewhere.say(ROOM, "live")
    assert wire.texts(ROOM) == ["live"]


@pytest.mark.slow
async def test_a_primary_that_was_superseded_is_not_believed(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, told: Position
) -> None:
    _, there = await pod.came("u_eve", {ROOM: told})
    await compares(pod)
    steps_down(deployment, superseded=True)
    client, wire = pod.client("u_eve")
    for looks in (
        OnePod(store).came("u_eve", {ROOM: told}),
        synced(store, told),
        compares(pod),
    ):
        with pytest.raises(ChatError) as refused:
            await looks
        assert refused.value.code is Code.STORAGE_UNAVAILABLE
    assert not resets(there) and not resets(wire)
    assert client.opening


async def test_a_store_that_was_put_back_is(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, told: Position
) -> None:
    _, there = await pod.came("u_eve", {ROOM: told, OTHER: 1})
    await compares(pod)
    loses_its_end(deployment)
    _, wire = await OnePod(store).came("u_eve", {ROOM: told, OTHER: 1})
    assert resets(wire) == [Resync([ROOM], reset=True)]
    assert Resync([ROOM], reset=True) in await synced(store, told)
    await compares(pod)
    assert resets(there) == [Resync([ROOM], reset=True)]


async def test_a_server_alone_is_believed_at_once() -> None:
    async with scripted_server() as server:
        store = await open_mongo(server.url.replace("/?", "/chat?"))
        await store.ensure_schema()
        pod = OnePod(store)
        await Elsewhere(store, pod).group(ROOM, "u_own", "u_eve")
        _, wire = await pod.came("u_eve", {ROOM: 9})
        assert resets(wire) == [Resync([ROOM], reset=True)]
        await store.aclose()


async def test_cursors_that_are_good_cost_nothing(
    deployment: ReplicaSet, store: MongoStore, pod: OnePod, told: Position
) -> None:
    await OnePod(store).came("u_eve", {ROOM: told, OTHER: 1})
    await synced(store, told)
    await compares(pod)
    finds = [each for member in deployment.members for each in member.seen("find")]
    assert {each["readConcern"]["level"] for each in finds} == {"majority"}
