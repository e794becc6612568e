"""Export as a job: exactly what is the person's to have, whole though workers die, and bounded."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
from support.desk import Desk
from support.joblab import JobLab, job_lab

from chatkernel.errors import ChatError, Code
from chatkernel.ids import now_ms
from chatkernel.jobs import EXPORT_EVERY_MS, EXPORT_HOLD_MS, archive_cursor, ask_export
from chatkernel.keys import Keys
from chatkernel.protocol import Edit, React, Send
from chatkernel.redis_client import Redis
from chatkernel.storage.model import Device, FriendAction, Job, JobKind, JobState, User
from chatkernel.storage.open import Store
from worker.jobs import archive, export


async def archive_of(store: Store, job: Job) -> dict[str, list[Any]]:
    """The files by name, each as its lines."""
    data = b""
    for attempt, count in archive_cursor(job).runs:
        for number in range(count):
            piece = await store.chunk(job.job_id, attempt, number)
            assert piece is not None
            data += piece
    assert len(data) == job.progress
    files: dict[str, list[Any]] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None and member.name not in files
            files[member.name] = [json.loads(line) for line in content.read().splitlines()]
    return files


class Town:
    def __init__(self, store: Store) -> None:
        self.store, self.desk, self.number = store, Desk(store), 0

    async def build(self) -> Town:
        for name in ("ann", "bob", "cem"):
            await self.store.create_user(User(name, f"name-{name}", name, 1), "the hash")
            await self.store.add_device(Device(f"dev-{name}", name, "phone", 1, 1))
        await self.store.put_settings("ann", {"theme": "dark"}, None)
        await self.store.friend_action("ann", "bob", FriendAction.REQUEST, 1)
        self.group = await self.desk.group("bob", "ann")
        self.left = await self.desk.group("bob", "ann")
        self.other = await self.desk.group("bob", "cem")
        return self

    async def say(self, user_id: str, channel_id: str, text: str) -> int:
        self.number += 1
        ack = await self.desk.does(user_id, Send("1", channel_id, f"k{self.number}", text))
        return int(ack.message_id or 0)


def texts(files: dict[str, list[Any]], folder: str) -> list[str]:
    found = [line for name in sorted(files) if name.startswith(folder) for line in files[name]]
    events = [line.get("event", line) for line in found]
    return [event["text"] for event in events if event.get("text")]


async def made(lab: JobLab) -> Job:
    job, _ = await ask_export(lab.store, "ann", now_ms)
    return await lab.until_ended(job.job_id)


async def test_it_has_what_is_theirs_and_nothing_else(any_store: Store, redis: Redis, keys: Keys) -> None:
    town = await Town(any_store).build()
    mine = await town.say("ann", town.group, "first")
    await town.desk.does("ann", Edit("1", town.group, "e1", mine, "first, better"))
    await town.desk.does("bob", React("1", town.group, "r1", mine, "x"))
    await town.say("bob", town.group, "seen by ann")
    await town.say("ann", town.left, "said before leaving")
    await town.say("bob", town.left, "of bob, there")
    await town.desk.channels.remove_member("ann", town.left, "ann", False)
    await town.say("bob", town.left, "after ann left")
    await town.say("bob", town.other, "never hers")
    async with job_lab(any_store, redis, keys) as lab:
        job = await made(lab)
    assert (job.state, job.error) == (JobState.DONE, "")
    assert job.expires_at > now_ms() + EXPORT_HOLD_MS - 60_000
    files = await archive_of(any_store, job)
    assert files["person.json"][0]["username"] == "name-ann"
    assert files["settings.json"][0]["values"] == {"theme": "dark"}
    assert [line["user_id"] for line in files["friends.jsonl"]] == ["bob"]
    assert [line["device_id"] for line in files["devices.jsonl"]] == ["dev-ann"]
    assert [line["channel_id"] for line in files["conversations/000001.jsonl"]] == [town.group]
    assert texts(files, f"history/{town.group}/") == ["first, better", "seen by ann"]
    assert texts(files, f"sent/{town.left}/") == ["said before leaving"]
    known = ("person", "settings", "friends", "devices", "conversations/", "history/", "sent/")
    assert all(name.startswith(known) for name in files)
    everything = json.dumps(files)
    for secret in ("the hash", "of bob, there", "after ann left", "never hers"):
        assert secret not in everything


async def test_every_line_once_though_each_batch_is_another_workers(
    any_store: Store, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LINES_PER_BATCH", 7)
    monkeypatch.setattr(export, "CHANNELS_PER_BATCH", 1)
    monkeypatch.setattr(archive, "FILE_MAX_BYTES", 1500)
    town = await Town(any_store).build()
    for number in range(30):
        await town.say("ann", town.group, f"here {number}")
        await town.say("ann", town.left, f"there {number}")
    await town.desk.channels.remove_member("ann", town.left, "ann", False)
    job, _ = await ask_export(any_store, "ann", now_ms)
    async with job_lab(any_store, redis, keys) as lab:
        task = lab.runner._tasks[JobKind.EXPORT]
        at = now_ms()
        while job.state not in (JobState.DONE, JobState.FAILED):
            at += 100
            claimed = await any_store.claim_job(at, at + 50)
            assert claimed is not None
            lost = await task.batch(claimed)  # made, and dies before it is noted
            assert lost.job_id == job.job_id
            at += 100
            again = await any_store.claim_job(at, at + 50)
            assert again is not None
            job = await task.batch(again)
            assert await any_store.keep_job(job)
            # Whoever lost it comes back late: neither its note nor its piece counts.
            assert not await any_store.keep_job(lost)
            await any_store.put_chunk(job.job_id, claimed.attempt, 0, b"late")
    assert job.state is JobState.DONE
    files = await archive_of(any_store, job)
    assert texts(files, "history/") == [f"here {number}" for number in range(30)]
    assert sorted(texts(files, "sent/")) == sorted(f"there {number}" for number in range(30))


async def test_one_that_is_larger_than_allowed_fails_and_keeps_nothing(
    store: Store, redis: Redis, keys: Keys
) -> None:
    town = await Town(store).build()
    for number in range(20):
        await town.say("ann", town.group, f"{number} " * 50)
    async with job_lab(store, redis, keys, max_bytes=600) as lab:
        job = await made(lab)
    assert (job.state, job.error) == (JobState.FAILED, "too_large")
    assert await store.chunk(job.job_id, 1, 0) is None
    again, new = await ask_export(store, "ann", now_ms)
    assert new and again.job_id != job.job_id


async def test_one_at_a_time_and_no_second_within_the_hour(store: Store, redis: Redis, keys: Keys) -> None:
    await Town(store).build()
    first, new = await ask_export(store, "ann", now_ms)
    assert (await ask_export(store, "ann", now_ms), new) == ((first, False), True)
    async with job_lab(store, redis, keys) as lab:
        await lab.until_ended(first.job_id)
    with pytest.raises(ChatError) as caught:
        await ask_export(store, "ann", now_ms)
    assert caught.value.code is Code.RATE_LIMITED and (caught.value.retry_after_s or 0) > 3_500
    later, new = await ask_export(store, "ann", lambda: now_ms() + EXPORT_EVERY_MS)
    assert new and await store.job(first.job_id) is None
    assert later.state is JobState.WAITING


async def test_it_is_gone_when_its_time_is_over(store: Store, redis: Redis, keys: Keys) -> None:
    await Town(store).build()
    async with job_lab(store, redis, keys) as lab:
        job = await made(lab)
        lab.ahead_ms, lab.runner._forget_at = EXPORT_HOLD_MS, 0.0
        await lab.runner.step()
    assert await store.job(job.job_id) is None
    assert await store.chunk(job.job_id, 1, 0) is None
