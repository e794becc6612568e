"""Erasing oneself, taking one's data along, and what an operator may do, over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import msgspec
from support.api_calls import PASSWORD, problem, sign_up
from support.api_pod import Pod, serving, settings_of
from support.valkey import Valkey

from chatkernel.ids import now_ms
from chatkernel.jobs import ArchiveCursor
from chatkernel.opstoken import ops_token
from chatkernel.protocol import encode_json
from chatkernel.storage.model import JobKind, JobState


async def test_erasure_wants_the_password_and_then_no_token_works_any_more(http: httpx.AsyncClient) -> None:
    ann = await sign_up(http, "ann")
    other = await ann.another_device()
    problem(await ann.ask("POST", "/v1/me/erasure", {"password": "wrong"}), 401, "wrong_credentials")
    problem(await ann.ask("POST", "/v1/me/erasure", {"confirm": ann.username}), 401, "wrong_credentials")
    answer = await ann.ask("POST", "/v1/me/erasure", {"password": PASSWORD})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"], job["progress"]) == ("erase", "waiting", 0)
    for device in (ann, other):
        problem(await device.ask("GET", "/v1/me"), 401, "device_revoked")
        refused = await http.post(
            "/v1/sessions/refresh", json={"refresh_token": device.tokens["refresh_token"]}
        )
        problem(refused, 401, "unauthenticated")
    again = await http.post("/v1/sessions", json={"username": ann.username, "password": PASSWORD})
    problem(again, 401, "wrong_credentials")
    shown = await http.get(f"/v1/jobs/{job['job_id']}")
    assert shown.json() == job
    problem(await http.get("/v1/jobs/j_nothing"), 404, "not_found")


async def test_export_is_asked_for_once_and_downloaded_by_its_person_alone(
    pod: Pod, http: httpx.AsyncClient
) -> None:
    ann, bob = await sign_up(http, "ann"), await sign_up(http, "bob")
    problem(await ann.ask("GET", "/v1/me/export"), 404, "not_found")
    problem(await ann.ask("GET", "/v1/me/export/archive"), 404, "not_found")
    first = await ann.ask("POST", "/v1/me/export")
    assert first.status_code == 202
    second = await ann.ask("POST", "/v1/me/export")
    assert (second.status_code, second.json()) == (200, first.json())
    problem(await ann.ask("GET", "/v1/me/export/archive"), 409, "conflict")
    await _finish(pod, ann.id, [b"abc", b"def"])
    assert (await ann.ok("GET", "/v1/me/export"))["state"] == "done"
    answer = await ann.ask("GET", "/v1/me/export/archive")
    assert (answer.status_code, answer.content) == (200, b"abcdef")
    assert answer.headers["content-type"] == "application/gzip"
    problem(await bob.ask("GET", "/v1/me/export/archive"), 404, "not_found")
    limited = problem(await ann.ask("POST", "/v1/me/export"), 429, "rate_limited")
    assert limited["retry_after_s"] > 3_000


async def _finish(pod: Pod, user_id: str, pieces: list[bytes]) -> None:
    """What a worker does, on the pod's own loop."""

    async def work() -> None:
        assert pod.services is not None
        store = pod.services.store
        job = await store.job_of(JobKind.EXPORT, user_id)
        claimed = None
        while claimed is None or job is None or claimed.job_id != job.job_id:
            claimed = await store.claim_job(now_ms() + 1000, now_ms() + 60_000)
        for number, data in enumerate(pieces):
            await store.put_chunk(job.job_id, claimed.attempt, number, data)
        cursor = encode_json(ArchiveCursor("done", runs=((claimed.attempt, len(pieces)),))).decode()
        done = msgspec.structs.replace(
            claimed, state=JobState.DONE, cursor=cursor, progress=6, expires_at=now_ms() + 60_000
        )
        assert await store.keep_job(done)

    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), pod.loop))


async def test_operators_erase_and_see_jobs_with_their_token_only(pod: Pod, http: httpx.AsyncClient) -> None:
    ann = await sign_up(http, "ann")
    ops = {"authorization": f"Bearer {ops_token(pod.secrets)}"}
    for headers in ({}, ann.headers, {"authorization": "Bearer nonsense"}):
        problem(await http.get("/v1/ops/jobs", headers=headers), 401, "unauthenticated")
        refused = await http.post("/v1/ops/erasures", json={"user": ann.id}, headers=headers)
        problem(refused, 401, "unauthenticated")
    missing = await http.post("/v1/ops/erasures", json={"user": "nobody-there"}, headers=ops)
    problem(missing, 404, "user_not_found")
    answer = await http.post("/v1/ops/erasures", json={"user": ann.username}, headers=ops)
    assert answer.status_code == 202
    problem(await ann.ask("GET", "/v1/me"), 401, "device_revoked")
    again = await http.post("/v1/ops/erasures", json={"user": ann.id}, headers=ops)
    assert again.json()["job_id"] == answer.json()["job_id"]
    jobs = (await http.get("/v1/ops/jobs", headers=ops)).json()["jobs"]
    [mine] = [job for job in jobs if job["subject"] == ann.id]
    assert (mine["kind"], mine["attempt"], mine["failures"]) == ("erase", 0, 0)


async def test_a_groups_retention_is_its_admins_and_bounded(http: httpx.AsyncClient) -> None:
    ann, bob = await sign_up(http, "ann"), await sign_up(http, "bob")
    group = await ann.ok("POST", "/v1/channels", {"kind": "group", "name": "Team", "members": [bob.id]})
    path = f"/v1/channels/{group['channel_id']}"
    assert (group["retention_s"], group["first_seq"]) == (0, 1)
    problem(await bob.ask("PATCH", path, {"retention_s": 86_400}), 403, "forbidden")
    problem(await ann.ask("PATCH", path, {}), 422, "invalid_field")
    refused = problem(await ann.ask("PATCH", path, {"retention_s": 60}), 422, "invalid_field")
    assert (refused["field"], refused["limit"]) == ("retention_s", 3_600)
    assert (await ann.ask("PATCH", path, {"retention_s": 86_400})).status_code == 204
    assert (await bob.ok("GET", path))["retention_s"] == 86_400
    page = await bob.frame("history", channel_id=group["channel_id"])
    last = page["frames"][0]["items"][-1]["event"]
    assert (last["kind"], last["retention_s"], last["sender_id"]) == ("retention", 86_400, ann.id)
    direct = await ann.ok("POST", "/v1/channels", {"kind": "direct", "user_id": bob.id})
    answer = await ann.ask("PATCH", f"/v1/channels/{direct['channel_id']}", {"retention_s": 86_400})
    problem(answer, 409, "conflict")
    assert (await ann.ask("PATCH", path, {"retention_s": 0, "name": "Us"})).status_code == 204
    state = await ann.ok("GET", path)
    assert (state["retention_s"], state["name"]) == (0, "Us")


async def test_a_group_keeps_nothing_for_longer_than_the_cluster(valkey: Valkey, tmp_path: Path) -> None:
    async with serving(settings_of(tmp_path, valkey.url, retention_s=86_400)) as (_, http):
        ann = await sign_up(http, "ann")
        group = await ann.ok("POST", "/v1/channels", {"kind": "group", "name": "Team"})
        path = f"/v1/channels/{group['channel_id']}"
        refused = problem(await ann.ask("PATCH", path, {"retention_s": 86_401}), 422, "invalid_field")
        assert (refused["field"], refused["limit"]) == ("retention_s", 86_400)
        assert (await ann.ask("PATCH", path, {"retention_s": 86_400})).status_code == 204
