"""The ports for how long things live: what retention and erasure remove, and the jobs that do it.

Everything here is called by background jobs, in bounded batches, may be cut off anywhere and is done again: each
method is idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chatkernel.protocol import Event
from chatkernel.storage.model import Blanked, Expired, Job, JobKind, Keeping


class Lifecycle(Protocol):
    """Removing. Raises ChatError(STORAGE_UNAVAILABLE | STORAGE_FULL)."""

    async def kept_channels(self, after: str, limit: int) -> list[Keeping]:
        """Channels by rising id after the given one."""

    async def expire(self, channel_id: str, before_id: int, limit: int) -> Expired:
        """Remove the oldest events whose message id is below `before_id`, at most about `limit` of them, and what
        hangs on them: reactions, and the texts of later edits. The floor moves first, so nobody sees a part of it.
        The event at the head stays as the anchor of the log, without its text."""

    async def wrote_in(self, user_id: str, channel_ids: Sequence[str]) -> list[str]:
        """Those of these channels that have messages, edits or reactions of the person, in the order given."""

    async def blank(self, channel_id: str, user_id: str, after: str, limit: int) -> Blanked:
        """Make what the person wrote tombstones, in the order of client_msg_id after the given one, at most `limit`
        events at a time: texts and metadata of messages and edits go, reactions are taken out, seqs stay."""

    async def sent(self, channel_id: str, user_id: str, after: str, limit: int) -> list[Event]:
        """What the person wrote, in the same order, as it is now: without the texts of what was deleted."""

    async def forget_marks(self, user_id: str) -> None:
        """What is kept of the person in channels that they are no longer in."""

    async def forget_person(self, user_id: str, at: int) -> None:
        """Remove the account and all that is keyed by it: profile, password, settings, friends, requests and blocks
        of either side, devices, tokens, an issuer's subject. Of user name and subject a digest stays: the name is
        never given again, and the subject not for SUBJECT_HOLD_MS."""

    async def lock_person(self, user_id: str) -> None:
        """The account can no longer log in: suspended, without a password, and its refresh tokens gone."""


class Jobs(Protocol):
    """Work that outlives whoever does it. Raises ChatError(STORAGE_UNAVAILABLE | STORAGE_FULL)."""

    async def put_job(self, job: Job, replaces: str = "") -> Job:
        """Store it unless there is one of its kind and subject already; whichever is there then. `replaces` is the id
        of one that has ended, whose place it takes."""

    async def job(self, job_id: str) -> Job | None: ...

    async def job_of(self, kind: JobKind, subject: str) -> Job | None: ...

    async def jobs(self, limit: int) -> list[Job]:
        """Newest first."""

    async def ended_jobs(self, now: int, limit: int) -> list[Job]:
        """Those that are to be forgotten by now."""

    async def claim_job(self, now: int, lease_until: int) -> Job | None:
        """The job that has been due for longest and that nobody works on, with its new attempt: of several who claim
        one it goes to one. None: nothing is due."""

    async def keep_job(self, job: Job) -> bool:
        """Store what became of a claimed job. False: its lease has ended, and another has claimed it since."""

    async def put_chunk(self, job_id: str, attempt: int, number: int, data: bytes) -> None:
        """Store or replace a piece of what a job makes."""

    async def chunk(self, job_id: str, attempt: int, number: int) -> bytes | None: ...

    async def drop_chunks(self, job_id: str) -> None: ...

    async def drop_job(self, job: Job) -> None:
        """Forget it, with its chunks, unless another has its place by now."""
