"""Jobs as services ask for them: how they are made, how long they are kept, and what their cursors say."""

from __future__ import annotations

import secrets

import msgspec
from msgspec import Struct

from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.storage.model import Job, JobKind, JobState
from chatkernel.storage.store import Store

CLUSTER = "cluster"
"""The subject of the one job of retention."""

EXPORT_HOLD_MS = 7 * 86_400_000
"""How long an archive is kept for its person."""
EXPORT_EVERY_MS = 3_600_000
"""An archive is made again no sooner."""
ENDED_HOLD_MS = 30 * 86_400_000
"""How long the state of an erasure can be asked for after its end."""
OPEN = (JobState.WAITING, JobState.RUNNING)


class JobView(Struct, frozen=True, omit_defaults=True):
    """A job as it is shown. `progress`: events blanked, or bytes of the archive. `error`: the code of the last
    failure; while the state is not `failed` it is tried again. `expires_at`: when it is forgotten, with what it
    made."""

    job_id: str
    kind: JobKind
    state: JobState
    created_at: int
    updated_at: int
    progress: int
    error: str = ""
    expires_at: int = 0


class OpsJob(JobView, frozen=True, omit_defaults=True, kw_only=True):
    """For operators: also whose it is, and how it goes."""

    subject: str
    run_at: int
    attempt: int
    failures: int


class ArchiveCursor(Struct, frozen=True):
    """How far an export is. `runs`: (attempt, chunks) in the order of the archive: a job that was taken over goes on
    under another attempt, so that whoever lost it cannot write into what the new one makes."""

    phase: str = "person"
    channel_id: str = ""
    after: str = ""
    part: int = 0
    runs: tuple[tuple[int, int], ...] = ()


_archive_cursor = msgspec.json.Decoder(ArchiveCursor)


def archive_cursor(job: Job) -> ArchiveCursor:
    return _archive_cursor.decode(job.cursor) if job.cursor else ArchiveCursor()


def view_of(job: Job) -> JobView:
    return JobView(
        job.job_id,
        job.kind,
        job.state,
        job.created_at,
        job.updated_at,
        job.progress,
        job.error,
        job.expires_at,
    )


def ops_view_of(job: Job) -> OpsJob:
    return OpsJob(
        job.job_id,
        job.kind,
        job.state,
        job.created_at,
        job.updated_at,
        job.progress,
        job.error,
        job.expires_at,
        subject=job.subject,
        run_at=job.run_at,
        attempt=job.attempt,
        failures=job.failures,
    )


def new_job(kind: JobKind, subject: str, now: int) -> Job:
    """Whoever knows the id of a job may see how it goes: it cannot be guessed."""
    return Job(f"j_{secrets.token_hex(16)}", kind, subject, now, updated_at=now, run_at=now)


async def ask_erasure(store: Store, user_id: str, now: NowMs) -> Job:
    """From here on nobody can log in to the account, and sooner or later all of it is gone. Asked again it is the
    same job. Raises ChatError."""
    job = await store.put_job(new_job(JobKind.ERASE, user_id, now()))
    await store.lock_person(user_id)
    return job


async def ask_export(store: Store, user_id: str, now: NowMs) -> tuple[Job, bool]:
    """The job and whether it is a new one. Raises ChatError(RATE_LIMITED)."""
    at = now()
    known = await store.job_of(JobKind.EXPORT, user_id)
    if known is not None and known.state in OPEN:
        return known, False
    if known is not None and known.state is JobState.DONE and known.created_at + EXPORT_EVERY_MS > at:
        raise ChatError(
            Code.RATE_LIMITED,
            "An archive was made within the last hour",
            retry_after_s=(known.created_at + EXPORT_EVERY_MS - at) / 1000,
        )
    wanted = new_job(JobKind.EXPORT, user_id, at)
    job = await store.put_job(wanted, replaces="" if known is None else known.job_id)
    return job, job.job_id == wanted.job_id
