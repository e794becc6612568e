"""Erasing oneself, and taking one's data along; and jobs as operators see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta, Struct

from apipod.operation import Answer, Call, Operation
from apipod.services import Services
from chatkernel.errors import ChatError, Code
from chatkernel.jobs import (
    JobView,
    OpsJob,
    archive_cursor,
    ask_erasure,
    ask_export,
    ops_view_of,
    view_of,
)
from chatkernel.opstoken import check_ops_token
from chatkernel.protocol import PASSWORD_MAX_CHARS
from chatkernel.storage.model import Job, JobKind, JobState

ARCHIVE_TYPE = "application/gzip"


class EraseMe(Struct, frozen=True):
    """`password`; for a person of an issuer, who has none here, the user name as `confirm`."""

    password: Annotated[str, Meta(max_length=PASSWORD_MAX_CHARS)] = ""
    confirm: Annotated[str, Meta(max_length=256)] = ""


class ErasePerson(Struct, frozen=True):
    """By user id or user name."""

    user: Annotated[str, Meta(min_length=1, max_length=256)]


class JobsQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class OpsJobs(Struct, frozen=True):
    """Newest first."""

    jobs: list[OpsJob]


async def erase_me(services: Services, call: Call) -> JobView:
    body: EraseMe = call.body
    await services.sessions.confirm(call.caller, body.password, body.confirm)
    return view_of(await _erase(services, call.user_id))


async def _erase(services: Services, user_id: str) -> Job:
    """The devices are logged out at once; the rest is the worker's."""
    job = await ask_erasure(services.store, user_id, services.now)
    await services.sessions.log_out(user_id, None)
    return job


async def read_job(services: Services, call: Call) -> JobView:
    """Without a token: an erased person has none any more."""
    job = await services.store.job(call.path["job_id"])
    if job is None:
        raise ChatError(Code.NOT_FOUND, field="job_id")
    return view_of(job)


async def export_me(services: Services, call: Call) -> Answer:
    job, new = await ask_export(services.store, call.user_id, services.now)
    return Answer(view_of(job), 202 if new else 200)


async def _my_export(services: Services, call: Call) -> Job:
    job = await services.store.job_of(JobKind.EXPORT, call.user_id)
    if job is None or (job.expires_at and job.expires_at <= services.now()):
        raise ChatError(Code.NOT_FOUND, "No export was asked for, or it is over")
    return job


async def read_export(services: Services, call: Call) -> JobView:
    return view_of(await _my_export(services, call))


async def download_export(services: Services, call: Call) -> Answer:
    job = await _my_export(services, call)
    if job.state is not JobState.DONE:
        raise ChatError(Code.CONFLICT, "The archive is not made yet")
    headers = {
        "content-type": ARCHIVE_TYPE,
        "content-length": str(job.progress),
        "content-disposition": f'attachment; filename="export-{call.user_id}.tar.gz"',
    }
    return Answer(_pieces(services, job), 200, headers)


async def _pieces(services: Services, job: Job) -> AsyncIterator[bytes]:
    """One piece in memory at a time."""
    for attempt, count in archive_cursor(job).runs:
        for number in range(count):
            data = await services.store.chunk(job.job_id, attempt, number)
            if data is None:
                raise ChatError(Code.NOT_FOUND, "The archive has just been removed")
            yield data


def _ops_only(services: Services, call: Call) -> None:
    if not check_ops_token(services.kernel.secrets, call.headers["authorization"]):
        raise ChatError(Code.UNAUTHENTICATED, "Only an operator may ask for this", field="Authorization")


async def list_jobs(services: Services, call: Call) -> OpsJobs:
    _ops_only(services, call)
    query: JobsQuery = call.query
    return OpsJobs([ops_view_of(job) for job in await services.store.jobs(query.limit)])


async def erase_person(services: Services, call: Call) -> JobView:
    _ops_only(services, call)
    body: ErasePerson = call.body
    known = await services.store.users([body.user])
    user = known.get(body.user) or await services.store.user_by_name(body.user)
    if user is None:
        raise ChatError(Code.USER_NOT_FOUND, field="user")
    return view_of(await _erase(services, user.user_id))


OPERATIONS = (
    Operation(
        "POST",
        "/v1/me/erasure",
        "eraseMe",
        "Erase my account and everything that I wrote, for good; all devices are logged out at once",
        erase_me,
        answer=JobView,
        status=202,
        body=EraseMe,
        errors=(Code.WRONG_CREDENTIALS, Code.USER_NOT_FOUND, Code.BUSY),
        tag="people",
    ),
    Operation(
        "POST",
        "/v1/me/export",
        "exportMe",
        "Have an archive of my data made (200 when one is being made already)",
        export_me,
        answer=JobView,
        status=202,
        other_answers={200: JobView},
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/me/export",
        "readExport",
        "How the making of my archive goes",
        read_export,
        answer=JobView,
        errors=(Code.NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/me/export/archive",
        "downloadExport",
        "My archive: a tar of JSON and JSON lines, compressed by gzip",
        download_export,
        answer=bytes,
        answer_type=ARCHIVE_TYPE,
        errors=(Code.NOT_FOUND, Code.CONFLICT),
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/jobs/{job_id}",
        "readJob",
        "How a job goes, for whoever has its id",
        read_job,
        answer=JobView,
        public=True,
        errors=(Code.NOT_FOUND,),
        tag="people",
    ),
    Operation(
        "GET",
        "/v1/ops/jobs",
        "listJobs",
        "All jobs, with the operations token",
        list_jobs,
        answer=OpsJobs,
        query=JobsQuery,
        public=True,
        headers=("authorization",),
        errors=(Code.UNAUTHENTICATED,),
        tag="operations",
    ),
    Operation(
        "POST",
        "/v1/ops/erasures",
        "erasePerson",
        "Erase a person, with the operations token",
        erase_person,
        answer=JobView,
        status=202,
        body=ErasePerson,
        public=True,
        headers=("authorization",),
        errors=(Code.UNAUTHENTICATED, Code.USER_NOT_FOUND),
        tag="operations",
    ),
)
