"""Erasure as a job: what others see of it, and that any step of it may be cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest
from support.bus_pod import BusPod
from support.desk import Desk
from support.joblab import JobLab, job_lab

from chatkernel.bus import EventEnvelope, Revoked
from chatkernel.ids import now_ms
from chatkernel.jobs import ask_erasure, ask_export
from chatkernel.keys import Keys
from chatkernel.protocol import Event, EventKind, Role, Send, Sync, decode_server_json
from chatkernel.redis_client import Redis
from chatkernel.storage.model import Absence, Device, Grant, Job, JobKind, JobState, User
from chatkernel.storage.open import Store


class Town:
    """Ann, who will go, with Bob and Cem: a group of hers, one of Bob's, one that she left, and a 1:1."""

    def __init__(self, store: Store) -> None:
        self.store, self.desk = store, Desk(store)
        self.ids = iter(range(10_000))

    async def build(self) -> Town:
        for name in ("ann", "bob", "cem"):
            await self.store.create_user(User(name, f"name-{name}", name, 1), "hash")
            await self.store.add_device(Device(f"dev-{name}", name, "phone", 1, 1))
        self.hers = await self.desk.group("ann", "bob", "cem")
        await self.desk.channels.set_role("ann", self.hers, "cem", Role.ADMIN)
        self.bobs = await self.desk.group("bob", "ann")
        self.left = await self.desk.group("bob", "ann")
        state, _ = await self.desk.channels.open_direct("ann", "bob")
        self.direct = state.channel_id
        self.all = [self.hers, self.bobs, self.left, self.direct]
        for channel_id in self.all:
            await self.say("ann", channel_id, "secret of ann")
            await self.say("bob", channel_id, "words of bob")
        await self.desk.channels.remove_member("ann", self.left, "ann", False)
        return self

    async def say(self, user_id: str, channel_id: str, text: str) -> None:
        await self.desk.does(user_id, Send("1", channel_id, f"k{next(self.ids)}", text))


async def erased(lab: JobLab) -> JobState:
    job = await ask_erasure(lab.store, "ann", now_ms)
    return (await lab.until_ended(job.job_id)).state


async def test_nothing_of_the_person_is_left_but_dense_tombstones(
    any_store: Store, redis: Redis, keys: Keys
) -> None:
    town = await Town(any_store).build()
    await any_store.put_settings("ann", {"a": 1}, None)
    async with job_lab(any_store, redis, keys) as lab:
        await lab.presence.beat([("ann", "dev-ann")])
        export, _ = await ask_export(any_store, "ann", now_ms)
        await lab.until_ended(export.job_id)
        assert await erased(lab) is JobState.DONE
        assert await any_store.job(export.job_id) is None
        assert await any_store.users(["ann"]) == {}
        assert (await any_store.grants_of(["ann"]))["ann"] == []
        for channel_id in town.all:
            log = await lab.log(channel_id)
            assert [event.seq for event in log] == list(range(1, len(log) + 1))
            assert not any("secret" in (event.text or "") for event in log)
            assert [event.text for event in log if event.text] == ["words of bob"]
            assert [event.users for event in log if event.kind is EventKind.ERASE] == [["ann"]]
            leaves = [event for event in log if event.kind is EventKind.LEAVE]
            assert [event.users for event in leaves] == [["ann"]]
        [entry] = await lab.presence.states(["ann"])
        assert entry.last_active_at is None


async def test_a_group_passes_to_its_oldest_admin(store: Store, redis: Redis, keys: Keys) -> None:
    town = await Town(store).build()
    async with job_lab(store, redis, keys) as lab:
        await erased(lab)
    roles = {member.user_id: member.role for member in await store.members(town.hers)}
    assert roles == {"bob": Role.MEMBER, "cem": Role.OWNER}
    assert isinstance(await store.grant(town.direct, "bob"), Grant)
    assert await store.grant(town.direct, "ann") is Absence.NOT_MEMBER


async def test_a_group_without_admins_passes_to_whoever_is_there_for_longest(
    store: Store, redis: Redis, keys: Keys
) -> None:
    town = await Town(store).build()
    await town.desk.channels.set_role("ann", town.hers, "cem", Role.MEMBER)
    await town.desk.channels.remove_member("ann", town.hers, "bob", False)
    await town.desk.channels.add_members("ann", town.hers, ["bob"])
    async with job_lab(store, redis, keys) as lab:
        await erased(lab)
    roles = {member.user_id: member.role for member in await store.members(town.hers)}
    assert roles == {"bob": Role.MEMBER, "cem": Role.OWNER}


async def test_it_is_told_live_and_at_sync(store: Store, redis: Redis, keys: Keys) -> None:
    town = await Town(store).build()
    pod = BusPod(redis, keys, "pod")
    await pod.start(town.bobs)
    await pod.routes.add(users=["ann"])
    async with job_lab(store, redis, keys) as lab:
        await erased(lab)
        heard: list[object] = []

        async def told() -> bool:
            heard.extend(await pod.received())
            return any(_kind(each) is EventKind.ERASE for each in heard)

        async with asyncio.timeout(5):
            while not await told():
                await asyncio.sleep(0.02)
        assert Revoked("ann", ["dev-ann"]) in heard
    page = await town.desk.messaging.reading.sync_once("bob", Sync("1", {town.bobs: 2}))
    kinds = [(event.kind, event.text) for event in page[0].events]  # type: ignore[union-attr]
    assert kinds == [
        (EventKind.MESSAGE, "words of bob"),
        (EventKind.LEAVE, None),
        (EventKind.ERASE, None),
    ]


def _kind(envelope: object) -> EventKind | None:
    if not isinstance(envelope, EventEnvelope):
        return None
    event = decode_server_json(envelope.frame)
    return event.kind if isinstance(event, Event) else None


class Mortal:
    """A store at whose nth call, of those that change something, the worker goes no further: before it or after."""

    def __init__(self, store: Store, dies_at: int, after: bool) -> None:
        self._store, self._left, self._after = store, dies_at, after
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)
        if name not in CHANGES:
            return method

        async def call(*args: object, **more: object) -> object:
            self._left -= 1
            if self._left == 0 and not self._after:
                await self._die()
            answer = await method(*args, **more)
            if self._left == 0:
                await self._die()
            return answer

        return call

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


CHANGES = frozenset(
    {"insert", "blank", "forget_person", "forget_marks", "lock_person", "revoke_devices", "keep_job"}
)


def moments() -> Iterator[tuple[int, bool]]:
    return ((number, after) for number in (1, 4, 6, 8, 9, 13, 16, 20) for after in (False, True))


@pytest.mark.slow
@pytest.mark.parametrize(("dies_at", "after"), list(moments()))
async def test_wherever_a_worker_dies_the_next_one_ends_in_the_same_state(
    any_store: Store, redis: Redis, keys: Keys, dies_at: int, after: bool
) -> None:
    town = await Town(any_store).build()
    job = await ask_erasure(any_store, "ann", now_ms)
    mortal = Mortal(any_store, dies_at, after)
    first = JobLab(mortal, redis, keys, "first", 0, 1 << 30)  # type: ignore[arg-type]
    first.publisher.start()
    working = asyncio.create_task(first.until_ended(job.job_id))
    await asyncio.wait_for(mortal.died.wait(), 20)
    for task in (working, first.appender._pump.common, first.publisher._task):
        if task is not None:
            task.cancel()
    async with job_lab(any_store, redis, keys, name="second") as lab:
        ended = await lab.until_ended(job.job_id)
        assert ended.state is JobState.DONE
        for channel_id in town.all:
            log = await lab.log(channel_id)
            assert [event.seq for event in log] == list(range(1, len(log) + 1))
            assert [event.text for event in log if event.text] == ["words of bob"]
            assert len([event for event in log if event.kind is EventKind.ERASE]) == 1
    assert await any_store.users(["ann"]) == {}
    assert {member.user_id: member.role for member in await any_store.members(town.hers)} == {
        "bob": Role.MEMBER,
        "cem": Role.OWNER,
    }


async def test_who_is_added_again_by_somebody_who_had_looked_before_leaves_again(
    store: Store, redis: Redis, keys: Keys
) -> None:
    town = await Town(store).build()
    town.desk.store.after["channel_counts"] = [_gone(store, redis, keys)]
    await town.desk.channels.add_members("bob", town.left, ["ann"])
    job = await store.job_of(JobKind.ERASE, "ann")
    assert job is not None and isinstance(await store.grant(town.left, "ann"), Grant)
    async with job_lab(store, redis, keys) as lab:
        assert (await lab.until_ended(job.job_id)).state is JobState.DONE
    assert await store.grant(town.left, "ann") is Absence.NOT_MEMBER


def _gone(store: Store, redis: Redis, keys: Keys):
    """Ann's erasure up to where it waits for what was under way."""

    async def run() -> None:
        job = await ask_erasure(store, "ann", now_ms)
        async with job_lab(store, redis, keys) as lab:
            while "check" not in job.cursor:
                claimed = await store.claim_job(now_ms(), now_ms() + 10_000)
                if claimed is None or claimed.job_id != job.job_id:
                    continue
                while claimed.state is JobState.RUNNING:
                    claimed = await lab.runner._tasks[JobKind.ERASE].batch(claimed)
                job = msgspec.structs.replace(claimed, lease_until=0)
                await store.keep_job(job)

    return run


@pytest.mark.parametrize("dies", [False, True])
async def test_a_piece_of_an_archive_that_is_stored_after_it_was_dropped_goes_too(
    store: Store, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    """By the worker that stored it; or, if it died, when the erasure looks again."""
    await Town(store).build()
    archive, _ = await ask_export(store, "ann", now_ms)
    async with job_lab(store, redis, keys) as lab:
        claimed = await store.claim_job(now_ms(), now_ms() + 10_000)
        assert claimed is not None and claimed.job_id == archive.job_id
        await _gone(store, redis, keys)()

        async def late(job: Job) -> Job:
            await store.put_chunk(job.job_id, job.attempt, 0, b"of ann")
            return job

        if dies:
            await late(claimed)
            erasure = await store.job_of(JobKind.ERASE, "ann")
            assert erasure is not None
            assert (await lab.until_ended(erasure.job_id)).state is JobState.DONE
        else:
            monkeypatch.setattr(lab.runner._tasks[JobKind.EXPORT], "batch", late)
            await lab.runner._run(claimed)
    assert await store.chunk(archive.job_id, claimed.attempt, 0) is None
