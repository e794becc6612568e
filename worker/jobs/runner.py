"""Claims jobs and runs them batch by batch.

A job is claimed with a lease, and what each batch did is stored with the next lease in one write that only the newest
claim may do. So of two workers one has a job; a worker that is killed leaves it to the other when the lease ends; and
one that was frozen and comes back finds its next write refused and lets go. What a batch does is idempotent, for the
one that was cut off is done again.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import msgspec

from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs
from chatkernel.jobs import CLUSTER, OPEN, new_job
from chatkernel.storage.lifecycle import Jobs
from chatkernel.storage.model import Job, JobKind, JobState

JOBS_INTERVAL_S = 0.5
SLICE_S = 3.0
"""After this a job goes back into the line, so that a long one does not hold up the others."""
BACKOFF_MOST_S = 300.0
BATCH_S = 2.0
"""After this a batch of many small steps ends, however slow the store is: well before its lease."""
FORGET_EVERY_S = 60.0
FORGET_MAX = 100
LEASES = 4
"""Leases of a pod that a claim is good for."""

log = logging.getLogger(__name__)


class Task(Protocol):
    """One kind of job. A batch takes well under a lease; it answers the job with a new cursor, progress and state:
    RUNNING goes on at once, WAITING not before `run_at`, DONE and FAILED end it."""

    gives_up_after: int
    """Failures in a row; 0: never."""

    async def batch(self, job: Job) -> Job:
        """Raises ChatError; one that is not retryable ends a job that may be given up."""
        ...

    async def failed(self, job: Job) -> Job:
        """What a job that is given up leaves."""
        ...


class JobRunner:
    """Owns what this worker has done of jobs."""

    def __init__(
        self,
        jobs: Jobs,
        tasks: Mapping[JobKind, Task],
        *,
        lease_s: float,
        now: NowMs,
        rng: random.Random | None = None,
    ) -> None:
        self._jobs, self._tasks, self._now = jobs, tasks, now
        self._lease_ms = int(lease_s * LEASES * 1000)
        self._rng = rng or random.Random()
        self._forget_at = 0.0
        self._begun = False
        self.batches: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        """Kind and state, as `erase:done`."""
        self.failing: dict[str, str] = {}
        """Kind to the code of its last failure, until a batch of the kind works again."""

    async def step(self) -> None:
        """Raises ChatError."""
        if not self._begun:
            await self._jobs.put_job(new_job(JobKind.RETENTION, CLUSTER, self._now()))
            self._begun = True
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_EVERY_S
            for job in await self._jobs.ended_jobs(self._now(), FORGET_MAX):
                await self._jobs.drop_job(job)
        now = self._now()
        # By the time of now, so that what a slice puts back is for the next step: others may be due.
        while (claimed := await self._jobs.claim_job(now, now + self._lease_ms)) is not None:
            await self._run(claimed)

    async def _run(self, job: Job) -> None:
        task, until = self._tasks[job.kind], time.monotonic() + SLICE_S
        while job.state is JobState.RUNNING:
            job = await self._batch(task, job)
            if job.state is JobState.RUNNING and time.monotonic() >= until:
                job = msgspec.structs.replace(job, state=JobState.WAITING, run_at=self._now())
            now = self._now()
            lease = now + self._lease_ms if job.state is JobState.RUNNING else 0
            job = msgspec.structs.replace(job, updated_at=now, lease_until=lease)
            if not await self._jobs.keep_job(job):
                log.warning("job lost", extra={"job": job.job_id, "kind": job.kind.value})
                if await self._jobs.job(job.job_id) is None:
                    # It was dropped, and what it had so far with it: not what this batch has stored since.
                    await self._jobs.drop_chunks(job.job_id)
                return
        if job.state not in OPEN:
            self.ended[f"{job.kind.value}:{job.state.value}"] += 1
            log.info("job ended", extra={"job": job.job_id, "kind": job.kind.value, "state": job.state.value})

    async def _batch(self, task: Task, job: Job) -> Job:
        try:
            done = await task.batch(job)
        except ChatError as error:
            return await self._failed(task, job, error)
        except Exception:
            log.exception("job failed", extra={"job": job.job_id, "kind": job.kind.value})
            return await self._failed(task, job, ChatError(Code.INTERNAL))
        self.batches[job.kind.value] += 1
        self.failing.pop(job.kind.value, None)
        return msgspec.structs.replace(done, failures=0, error="")

    async def _failed(self, task: Task, job: Job, error: ChatError) -> Job:
        """Later again; or the end, where there is one."""
        failures = job.failures + 1
        self.failing[job.kind.value] = error.code.value
        log.warning("job interrupted", extra={"job": job.job_id, "kind": job.kind.value, "error": str(error)})
        wait_s = min(BACKOFF_MOST_S, 2.0 ** min(failures, 16)) * self._rng.uniform(0.5, 1.0)
        job = msgspec.structs.replace(
            job,
            failures=failures,
            error=error.code.value,
            state=JobState.WAITING,
            run_at=self._now() + int(wait_s * 1000),
        )
        if task.gives_up_after and (not error.retryable or failures >= task.gives_up_after):
            self.failing.pop(job.kind.value, None)
            return await task.failed(msgspec.structs.replace(job, state=JobState.FAILED))
        return job
