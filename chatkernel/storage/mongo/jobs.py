"""The port Jobs on MongoDB. Who claims is decided by an update of what was read, and never by what is returned."""

from __future__ import annotations

import msgspec
from bson.binary import Binary
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from chatkernel.storage.model import Job, JobKind, JobState
from chatkernel.storage.mongo.client import Collections
from chatkernel.storage.mongo.documents import Document
from chatkernel.storage.mongo.errors import lost_race, translated
from chatkernel.storage.mongo.upserts import write_again

_OPEN = (JobState.WAITING.value, JobState.RUNNING.value)
_CANDIDATES = 8
"""Looked at in one claim: others may be quicker at the first."""


class MongoJobs:
    _collections: Collections

    async def put_job(self, job: Job, replaces: str = "") -> Job:
        jobs = self._collections.jobs
        with translated():
            if replaces:
                ended = {
                    "_id": _slot(job.kind, job.subject),
                    "job_id": replaces,
                    "state": {"$nin": list(_OPEN)},
                }
                await jobs.delete_one(ended)
                await self._drop_chunks(replaces)
            try:
                await jobs.insert_one(_document(job))
            except PyMongoError as error:
                if not lost_race(error):
                    raise
            else:
                return job
            found = await jobs.find_one({"_id": _slot(job.kind, job.subject)})
        return job if found is None else _job(found)

    async def job(self, job_id: str) -> Job | None:
        with translated():
            found = await self._collections.jobs.find_one({"job_id": job_id})
        return None if found is None else _job(found)

    async def job_of(self, kind: JobKind, subject: str) -> Job | None:
        with translated():
            found = await self._collections.jobs.find_one({"_id": _slot(kind, subject)})
        return None if found is None else _job(found)

    async def jobs(self, limit: int) -> list[Job]:
        """Sorts all there are: ended ones are forgotten after a while."""
        with translated():
            found = await self._collections.jobs.find({}).sort("created_at", -1).limit(limit).to_list()
        return [_job(each) for each in found]

    async def ended_jobs(self, now: int, limit: int) -> list[Job]:
        ended = [state.value for state in (JobState.DONE, JobState.FAILED)]
        over = {"state": {"$in": ended}, "expires_at": {"$gt": 0, "$lte": now}}
        with translated():
            return [_job(each) async for each in self._collections.jobs.find(over).limit(limit)]

    async def claim_job(self, now: int, lease_until: int) -> Job | None:
        due = {"state": {"$in": list(_OPEN)}, "run_at": {"$lte": now}, "lease_until": {"$lte": now}}
        with translated():
            candidates = self._collections.jobs.find(due).sort("run_at", 1).limit(_CANDIDATES)
            for each in await candidates.to_list():
                values = {"lease_until": lease_until, "state": JobState.RUNNING.value, "updated_at": now}
                seen = {"_id": each["_id"], "job_id": each["job_id"], "attempt": each["attempt"]}
                claimed = await self._collections.jobs.update_one(
                    {**seen, "state": each["state"]}, {"$set": {**values, "attempt": each["attempt"] + 1}}
                )
                if claimed.matched_count:
                    return _job({**each, **values, "attempt": each["attempt"] + 1})
        return None

    async def keep_job(self, job: Job) -> bool:
        values = _document(job)
        mine = {"_id": values.pop("_id"), "job_id": job.job_id, "attempt": job.attempt}
        with translated():
            kept = await self._collections.jobs.update_one(
                {**mine, "state": {"$in": list(_OPEN)}}, {"$set": values}
            )
        return kept.matched_count > 0

    async def put_chunk(self, job_id: str, attempt: int, number: int, data: bytes) -> None:
        where = {"job_id": job_id, "attempt": attempt, "number": number}
        with translated():
            chunk = UpdateOne(where, {"$set": {"data": Binary(data)}}, upsert=True)
            await write_again(self._collections.job_chunks, [chunk])

    async def chunk(self, job_id: str, attempt: int, number: int) -> bytes | None:
        where = {"job_id": job_id, "attempt": attempt, "number": number}
        with translated():
            found = await self._collections.job_chunks.find_one(where)
        return None if found is None else bytes(found["data"])

    async def drop_chunks(self, job_id: str) -> None:
        with translated():
            await self._drop_chunks(job_id)

    async def _drop_chunks(self, job_id: str) -> None:
        await self._collections.job_chunks.delete_many({"job_id": job_id})

    async def drop_job(self, job: Job) -> None:
        with translated():
            await self._drop_chunks(job.job_id)
            await self._collections.jobs.delete_one(
                {"_id": _slot(job.kind, job.subject), "job_id": job.job_id}
            )


def _slot(kind: JobKind, subject: str) -> str:
    return f"{kind.value}:{subject}"


def _document(job: Job) -> Document:
    values = msgspec.structs.asdict(job)
    return {**values, "_id": _slot(job.kind, job.subject), "kind": job.kind.value, "state": job.state.value}


def _job(found: Document) -> Job:
    return msgspec.convert({name: found[name] for name in Job.__struct_fields__}, Job)
