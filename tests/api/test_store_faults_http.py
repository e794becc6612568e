"""The store cannot write: who asks is told to come back, and nothing is lost or there twice when they do."""

import asyncio
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest
from support.api_calls import problem, sign_up
from support.api_pod import serving, settings_of


@pytest.mark.slow
async def test_a_locked_store_is_retryable_and_the_resend_is_stored_once(http, pod):
    anna = await sign_up(http)
    channel = (await anna.ok("POST", "/v1/channels", {"kind": "group", "name": "g"}))["channel_id"]
    frame = {"type": "send", "id": "f", "channel_id": channel, "client_msg_id": "m1", "text": "still here"}
    path = pod.settings.store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sending = asyncio.create_task(anna.ask("POST", "/v1/frames", frame, timeout=60))
        changing = asyncio.create_task(anna.ask("PATCH", "/v1/me", {"about": "x"}, timeout=60))
        # Reading goes on, and shows nothing that was not acked.
        page = (await anna.frame("history", channel_id=channel))["frames"][0]
        assert [item["event"]["kind"] for item in page["items"]] == ["created"]
        document = problem(await sending, 503, "storage_unavailable")
        assert document["retryable"] and document["frames"][0]["retryable"]
        assert problem(await changing, 503, "storage_unavailable")["retryable"]
        other.execute("ROLLBACK")
    first = (await anna.ok("POST", "/v1/frames", frame))["frames"][-1]
    again = (await anna.ok("POST", "/v1/frames", frame))["frames"][-1]
    assert (first["type"], first["seq"]) == ("ack", 2)
    assert (again["seq"], again["duplicate"]) == (2, True)
    page = (await anna.frame("history", channel_id=channel))["frames"][0]
    assert [item["event"].get("text") for item in page["items"]] == [None, "still here"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, which only root may make."""
    place = tmp_path / "small"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(["mount", *options], check=False).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
async def test_a_full_disk_is_retryable_and_what_was_acked_stays(valkey, small_disk):
    async with serving(settings_of(small_disk, valkey.url)) as (_, http):
        anna = await sign_up(http)
        channel = (await anna.ok("POST", "/v1/channels", {"kind": "group", "name": "g"}))["channel_id"]
        frame = {"type": "send", "id": "f", "channel_id": channel, "text": "x" * 16_000}
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        acked = []
        for number in range(200):
            answer = await anna.ask(
                "POST", "/v1/frames", {**frame, "client_msg_id": f"m{number}"}, timeout=60
            )
            if answer.status_code != 200:
                break
            acked.append(answer.json()["frames"][-1]["seq"])
        document = problem(answer, 503, "storage_full")
        assert document["retryable"] and document["frames"][0]["retryable"]
        await anna.frame("history", channel_id=channel)
        filler.unlink()
        again = await anna.ok("POST", "/v1/frames", {**frame, "client_msg_id": f"m{len(acked)}"})
        acked.append(again["frames"][-1]["seq"])
        assert acked == list(range(2, len(acked) + 2))
        stored = [1]
        while stored[-1] < acked[-1]:
            page = (await anna.frame("history", channel_id=channel, after=stored[-1]))["frames"][0]
            stored += [item["event"]["seq"] for item in page["items"]]
        assert stored[1:] == acked
