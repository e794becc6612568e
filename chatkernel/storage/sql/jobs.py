"""The port Jobs on SQL."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from chatkernel.storage.model import Job, JobKind, JobState
from chatkernel.storage.sql.runner import Runner
from chatkernel.storage.sql.schema import job_chunks, jobs

_fields = [jobs.c[name] for name in Job.__struct_fields__]
_OPEN = (JobState.WAITING.value, JobState.RUNNING.value)


def _job(row: Row[Any]) -> Job:
    return msgspec.convert(dict(zip(Job.__struct_fields__, row, strict=True)), Job)


def _values(job: Job) -> dict[str, Any]:
    return {**msgspec.structs.asdict(job), "kind": job.kind.value, "state": job.state.value}


def _find(conn: Connection, *where: Any) -> Job | None:
    row = conn.execute(select(*_fields).where(*where)).first()
    return None if row is None else _job(row)


def put_job(conn: Connection, job: Job, replaces: str) -> Job:
    known = _find(conn, jobs.c.kind == job.kind.value, jobs.c.subject == job.subject)
    if known is not None and (known.job_id != replaces or known.state.value in _OPEN):
        return known
    if known is not None:
        drop_job(conn, known)
    conn.execute(insert(jobs).values(_values(job)))
    return job


def list_jobs(conn: Connection, limit: int) -> list[Job]:
    newest = select(*_fields).order_by(jobs.c.created_at.desc(), jobs.c.job_id).limit(limit)
    return [_job(row) for row in conn.execute(newest)]


def ended_jobs(conn: Connection, now: int, limit: int) -> list[Job]:
    c = jobs.c
    over = select(*_fields).where(c.state.not_in(_OPEN), c.expires_at > 0, c.expires_at <= now).limit(limit)
    return [_job(row) for row in conn.execute(over)]


def claim_job(conn: Connection, now: int, lease_until: int) -> Job | None:
    due = select(*_fields).where(jobs.c.state.in_(_OPEN), jobs.c.run_at <= now, jobs.c.lease_until <= now)
    row = conn.execute(due.order_by(jobs.c.run_at).limit(1)).first()
    if row is None:
        return None
    found = _job(row)
    claimed = msgspec.structs.replace(
        found, attempt=found.attempt + 1, lease_until=lease_until, state=JobState.RUNNING, updated_at=now
    )
    mine = (jobs.c.job_id == found.job_id, jobs.c.attempt == found.attempt)
    return claimed if conn.execute(update(jobs).where(*mine).values(_values(claimed))).rowcount else None


def keep_job(conn: Connection, job: Job) -> bool:
    mine = (jobs.c.job_id == job.job_id, jobs.c.attempt == job.attempt, jobs.c.state.in_(_OPEN))
    return conn.execute(update(jobs).where(*mine).values(_values(job))).rowcount > 0


def put_chunk(conn: Connection, job_id: str, attempt: int, number: int, data: bytes) -> None:
    c = job_chunks.c
    conn.execute(delete(job_chunks).where(c.job_id == job_id, c.attempt == attempt, c.number == number))
    conn.execute(insert(job_chunks).values(job_id=job_id, attempt=attempt, number=number, data=data))


def find_chunk(conn: Connection, job_id: str, attempt: int, number: int) -> bytes | None:
    c = job_chunks.c
    this = (c.job_id == job_id, c.attempt == attempt, c.number == number)
    found: bytes | None = conn.execute(select(c.data).where(*this)).scalar()
    return found


def drop_job(conn: Connection, job: Job) -> None:
    conn.execute(delete(job_chunks).where(job_chunks.c.job_id == job.job_id))
    conn.execute(delete(jobs).where(jobs.c.job_id == job.job_id))


class SqlJobs:
    _db: Runner

    async def put_job(self, job: Job, replaces: str = "") -> Job:
        return await self._db.write(
            lambda conn: put_job(conn, job, replaces), about=[f"job {job.kind.value} {job.subject}"]
        )

    async def job(self, job_id: str) -> Job | None:
        return await self._db.read(lambda conn: _find(conn, jobs.c.job_id == job_id))

    async def job_of(self, kind: JobKind, subject: str) -> Job | None:
        where = (jobs.c.kind == kind.value, jobs.c.subject == subject)
        return await self._db.read(lambda conn: _find(conn, *where))

    async def jobs(self, limit: int) -> list[Job]:
        return await self._db.read(lambda conn: list_jobs(conn, limit))

    async def ended_jobs(self, now: int, limit: int) -> list[Job]:
        return await self._db.read(lambda conn: ended_jobs(conn, now, limit))

    async def claim_job(self, now: int, lease_until: int) -> Job | None:
        return await self._db.write(lambda conn: claim_job(conn, now, lease_until))

    async def keep_job(self, job: Job) -> bool:
        return await self._db.write(lambda conn: keep_job(conn, job))

    async def put_chunk(self, job_id: str, attempt: int, number: int, data: bytes) -> None:
        await self._db.write(lambda conn: put_chunk(conn, job_id, attempt, number, data))

    async def chunk(self, job_id: str, attempt: int, number: int) -> bytes | None:
        return await self._db.read(lambda conn: find_chunk(conn, job_id, attempt, number))

    async def drop_chunks(self, job_id: str) -> None:
        await self._db.write(
            lambda conn: conn.execute(delete(job_chunks).where(job_chunks.c.job_id == job_id))
        )

    async def drop_job(self, job: Job) -> None:
        await self._db.write(lambda conn: drop_job(conn, job))
